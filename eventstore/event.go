package eventstore

import (
	"time"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Kind says why an event stands in the log.
type Kind uint8

// The kinds of events. Their numbers are part of the canonical encoding.
const (
	KindDomain       Kind = 1 // decided by an aggregate
	KindResolution   Kind = 2 // settles a conflict between sites
	KindCompensation Kind = 3 // undoes what another event did
	KindTransfer     Kind = 4 // moves rights or ownership between sites
	KindSystem       Kind = 5 // Tributary's own: receipts of empty commands, checkpoints
)

// String returns the name of the kind, as it stands in Kafka headers and JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

var kindNames = [...]string{
	KindDomain: "domain", KindResolution: "resolution", KindCompensation: "compensation",
	KindTransfer: "transfer", KindSystem: "system",
}

// ParseKind reads what Kind.String writes.
func ParseKind(name string) (Kind, error) {
	for k, n := range kindNames {
		if n != "" && n == name {
			return Kind(k), nil
		}
	}
	return 0, invalidf("event kind %q is unknown", name)
}

// Encoding says how a payload is encoded.
type Encoding uint8

// The encodings of payloads. Their numbers are part of the canonical encoding.
const (
	Protobuf Encoding = 1
	JSON     Encoding = 2
)

// ContentType returns the media type of the encoding, as it stands in Kafka headers.
func (e Encoding) ContentType() string {
	switch e {
	case Protobuf:
		return "application/protobuf"
	case JSON:
		return "application/json"
	}
	return "application/octet-stream"
}

// ParseContentType reads what Encoding.ContentType writes.
func ParseContentType(name string) (Encoding, error) {
	switch name {
	case "application/protobuf":
		return Protobuf, nil
	case "application/json":
		return JSON, nil
	}
	return 0, invalidf("content type %q is unknown", name)
}

// Event is a fact that a caller proposes to record.
type Event struct {
	// ID is a UUID; a zero ID is replaced by a new UUIDv7. No two events of one request have the same.
	ID uuid.UUID
	// Type is the stable wire name, "category.event.vN".
	Type string
	// SchemaVersion is the version of the payload's schema; zero means 1.
	SchemaVersion uint16
	// Kind and Encoding: zero means KindDomain and Protobuf.
	Kind     Kind
	Encoding Encoding
	Payload  []byte
	// Tags are "key:value" pairs for conditions and filters; stored sorted, each once. No personal data.
	Tags []string
	// KeyRef names the key that seals erasable fields; 0 is none.
	KeyRef uint32
}

// Metadata says where a request came from. It is recorded with each of its events.
type Metadata struct {
	// Causation is the id of the message that led to this one; Correlation is shared by all that follow from one start.
	Causation   string
	Correlation string
	// TraceParent and TraceState are the W3C trace context.
	TraceParent string
	TraceState  string
	// Actor is who asked: a principal's reference, no personal data.
	Actor string
}

// Batch says which events were appended together: Count events from FirstSeq on. A batch is applied whole, or not at all.
type Batch struct {
	FirstSeq uint64
	Count    uint32
}

// Hash is a SHA-256.
type Hash [32]byte

// Recorded is an event as the log holds it.
type Recorded struct {
	// Position is the place in the log it was read from; it differs from site to site, and so may Revises. Everything else
	// does not.
	Position Position
	Dot      Dot
	Batch    Batch
	HLC      hlc.Timestamp
	Stream   StreamID
	// Version is the event's place in its stream, from 1.
	Version uint64
	// Cell is the hash slot of the stream, Epoch the fencing number of the cell's ownership at commit.
	Cell  uint16
	Epoch uint32

	Event

	// CommandID and RequestHash are the ID and Hash of the request that brought the event; empty when it had none.
	CommandID   string
	RequestHash Hash
	Metadata
	// Context is what the decider had folded of this stream; Dep is what the site had applied of foreign logs.
	Context Vector
	Dep     Vector

	// Revises says that, when the event was received from another site, the log had events of its stream already that stand
	// after it in canonical order: what was folded from them has to be folded anew. It is the store's own, as Position is,
	// and no part of the frame.
	Revises bool

	// Chain is the log's hash chain after this event. It is filled only where a reader asks for it.
	Chain Hash

	// Opened is the payload with its sealed fields opened, where the reader opens them; nil otherwise. It is no part of the
	// frame: what stores an event or passes it on takes Payload, which stays sealed.
	Opened []byte
	// Erased says that sealed fields are missing from Opened because their key is destroyed.
	Erased bool
}

// Body returns the payload as far as it may be read: Opened where the reader has opened it, else Payload.
func (r *Recorded) Body() []byte {
	if r.Opened != nil {
		return r.Opened
	}
	return r.Payload
}

// Time returns the wall-clock part of the event's hybrid logical clock, in UTC, to the millisecond.
func (r *Recorded) Time() time.Time { return r.HLC.Time() }

// EndsBatch reports whether the event is the last of those that were appended together.
func (r *Recorded) EndsBatch() bool { return r.Dot.Seq+1 == r.Batch.FirstSeq+uint64(r.Batch.Count) }

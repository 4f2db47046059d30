package eventstore

import (
	"bytes"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of a request. A store may set lower ones.
const (
	MaxPayloadBytes   = 4 << 20
	MaxRequestBytes   = 16 << 20
	MaxRequestEvents  = 10_000
	MaxRequestIDBytes = 128
	MaxTags           = 16
	MaxTagBytes       = 256
	MaxTypeBytes      = 128
	// MaxMetadataBytes bounds each text of the Metadata, MaxContext the entries of a stream's Context.
	MaxMetadataBytes = 1024
	MaxContext       = 1024
)

// Expect is what the caller believes of a stream's version. The zero value is Any.
type Expect int64

// The expectations that are not exact versions.
const (
	Any      Expect = 0  // no expectation
	NoStream Expect = -1 // the stream has no events
	Exists   Expect = -2 // the stream has at least one event
)

// Exactly expects the stream to stand at version v; Exactly(0) is NoStream. No stream ever stands at a version beyond
// math.MaxInt64, so that what is beyond it is never met.
func Exactly(v uint64) Expect {
	if v == 0 {
		return NoStream
	}
	return Expect(min(v, math.MaxInt64))
}

// Holds reports whether the expectation is met by a stream at the given version (0: no events).
func (e Expect) Holds(version uint64) bool {
	switch e {
	case Any:
		return true
	case NoStream:
		return version == 0
	case Exists:
		return version > 0
	}
	return e > 0 && uint64(e) == version
}

// String returns the expectation in words, as conflict errors show it.
func (e Expect) String() string {
	switch e {
	case Any:
		return "any version"
	case NoStream:
		return "no stream"
	case Exists:
		return "an existing stream"
	}
	return fmt.Sprintf("version %d", int64(e))
}

// Durability says where a batch must be before its append is acknowledged.
type Durability uint8

// The classes of durability, each stronger than the one before.
const (
	Local Durability = iota // synced to this shard's disk
	Kafka                   // and acknowledged by every in-sync replica of the mirror's topic
	Peer                    // and on disk at another site
)

// String returns the name of the class.
func (d Durability) String() string {
	switch d {
	case Local:
		return "local"
	case Kafka:
		return "kafka"
	case Peer:
		return "peer"
	}
	return "unknown"
}

// ParseDurability reads what Durability.String writes; an empty name is Local.
func ParseDurability(name string) (Durability, error) {
	switch name {
	case "", "local":
		return Local, nil
	case "kafka":
		return Kafka, nil
	case "peer":
		return Peer, nil
	}
	return 0, invalidf("durability %q is unknown, use local, kafka or peer", name)
}

// StreamAppend is what a request adds to one stream.
type StreamAppend struct {
	Stream StreamID
	Expect Expect
	Events []Event
	// Context is what the decider had folded of the stream; nil when it folded nothing.
	Context Vector
}

// Request asks for events of one or many streams to be recorded together: all of them, or none.
type Request struct {
	// Tenant owns the ID and every stream of the request; empty means DefaultTenant.
	Tenant string
	// ID makes the request idempotent: a second request of the tenant with the same ID and Hash returns the receipt of
	// the first. A request without events must have one; it is recorded by a system event.
	ID string
	// Hash is a hash of what was asked, by which a reused ID is told from a repeated request. Zero: it is computed from
	// the streams, types and payloads.
	Hash    Hash
	Appends []StreamAppend
	// Condition, when set, is judged together with the expectations of the streams.
	Condition  *Condition
	Durability Durability
	Metadata
}

// StreamReceipt says what an append did to one stream: it now holds the request's events as versions First to Last.
type StreamReceipt struct {
	Stream      StreamID
	First, Last uint64
}

// Receipt says what a committed request did.
type Receipt struct {
	// ID is the request's ID.
	ID string
	// Streams has an entry for each stream of the request, in its order; empty for a request without events.
	Streams []StreamReceipt
	// First and Position are the places of the first and last of the request's events in the log.
	First, Position Position
	// Dot is the identity of the last of the request's events, the same at every site. What holds it holds the request, and all
	// that it was decided with.
	Dot Dot
	// Duplicate is true when the request had been applied before and this is the receipt of that time.
	Duplicate bool
	// Reached is the durability that was reached when the receipt was given.
	Reached Durability
}

// Stream returns what the request did to the stream; the zero value when it did nothing.
func (r Receipt) Stream(id StreamID) StreamReceipt {
	for _, s := range r.Streams {
		if s.Stream == id {
			return s
		}
	}
	return StreamReceipt{}
}

// Normalize fills defaults (tenant, kind, encoding, schema version, hash) in place and validates the request. It leaves
// event IDs to the store. Stores call it first.
func (r *Request) Normalize() error {
	if r.Tenant == "" {
		r.Tenant = DefaultTenant
	}
	if err := validateName("tenant", r.Tenant); err != nil {
		return err
	}
	if err := validateRequestID(r.ID); err != nil {
		return err
	}
	if len(r.Appends) == 0 && r.ID == "" {
		return invalidf("a request without events needs an id")
	}
	if r.Durability > Peer {
		return invalidf("durability %d is unknown", r.Durability)
	}
	if err := r.Metadata.validate(); err != nil {
		return err
	}
	if r.Condition != nil {
		if err := r.Condition.validate(); err != nil {
			return err
		}
	}
	events, bytes := 0, 0
	for i := range r.Appends {
		a := &r.Appends[i]
		if err := a.normalize(r.Tenant); err != nil {
			return err
		}
		events += len(a.Events)
		for j := range a.Events {
			bytes += len(a.Events[j].Payload)
		}
	}
	if s, twice := r.streamTwice(); twice {
		return invalidf("stream %s is named twice in one request", s)
	}
	if events > MaxRequestEvents {
		return fmt.Errorf("%w: %d events in one request, the limit is %d", ErrTooLarge, events, MaxRequestEvents)
	}
	if bytes > MaxRequestBytes {
		return fmt.Errorf("%w: %d bytes in one request, the limit is %d", ErrTooLarge, bytes, MaxRequestBytes)
	}
	if id, twice := r.eventTwice(events); twice {
		return invalidf("event id %s is given to two events of one request", id)
	}
	if r.Hash == (Hash{}) && r.ID != "" {
		r.Hash = r.contentHash()
	}
	return nil
}

// eventTwice returns an id that two of the request's events have. Ids in ascending order, as UUIDv7 mostly are, need no
// further look.
func (r *Request) eventTwice(events int) (uuid.UUID, bool) {
	if events < 2 {
		return uuid.Nil, false
	}
	ascending, last := true, uuid.Nil
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			if id := r.Appends[i].Events[j].ID; id != uuid.Nil {
				ascending = ascending && bytes.Compare(last[:], id[:]) < 0
				last = id
			}
		}
	}
	if ascending {
		return uuid.Nil, false
	}
	seen := make(map[uuid.UUID]struct{}, events)
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			id := r.Appends[i].Events[j].ID
			if _, twice := seen[id]; twice && id != uuid.Nil {
				return id, true
			}
			seen[id] = struct{}{}
		}
	}
	return uuid.Nil, false
}

// streamTwice returns a stream that the request names more than once.
func (r *Request) streamTwice() (StreamID, bool) {
	if len(r.Appends) < 2 {
		return StreamID{}, false
	}
	seen := make(map[StreamID]struct{}, len(r.Appends))
	for i := range r.Appends {
		seen[r.Appends[i].Stream] = struct{}{}
		if len(seen) == i {
			return r.Appends[i].Stream, true
		}
	}
	return StreamID{}, false
}

func (m *Metadata) validate() error {
	for _, text := range [...]struct{ name, value string }{
		{"causation", m.Causation}, {"correlation", m.Correlation}, {"traceparent", m.TraceParent}, {"tracestate", m.TraceState}, {"actor", m.Actor},
	} {
		if len(text.value) > MaxMetadataBytes {
			return fmt.Errorf("%w: %s has %d bytes, the limit is %d", ErrTooLarge, text.name, len(text.value), MaxMetadataBytes)
		}
		if !utf8.ValidString(text.value) {
			return invalidf("%s is not valid UTF-8", text.name)
		}
	}
	return nil
}

func (a *StreamAppend) normalize(tenant string) error {
	if len(a.Context) > MaxContext {
		return fmt.Errorf("%w: a context of %d entries, the limit is %d", ErrTooLarge, len(a.Context), MaxContext)
	}
	if err := a.Stream.Validate(); err != nil {
		return err
	}
	if a.Stream.Category == ReceiptCategory {
		return invalidf("stream %s: category %q is kept for the receipts of requests without events", a.Stream, ReceiptCategory)
	}
	if a.Stream.Tenant != tenant {
		return invalidf("stream %s is not of the request's tenant %q", a.Stream, tenant)
	}
	if a.Expect < Exists {
		return invalidf("stream %s: expectation %d is unknown", a.Stream, int64(a.Expect))
	}
	if len(a.Events) == 0 {
		return invalidf("stream %s: no events to append", a.Stream)
	}
	for i := range a.Events {
		if err := a.Events[i].normalize(); err != nil {
			return fmt.Errorf("stream %s, event %d: %w", a.Stream, i+1, err)
		}
	}
	return nil
}

func validateRequestID(id string) error {
	if len(id) > MaxRequestIDBytes {
		return invalidf("request id has %d bytes, the limit is %d", len(id), MaxRequestIDBytes)
	}
	if !utf8.ValidString(id) {
		return invalidf("request id is not valid UTF-8")
	}
	for _, r := range id {
		if !unicode.IsPrint(r) {
			return invalidf("request id holds the unprintable character %U", r)
		}
	}
	return nil
}

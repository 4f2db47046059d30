package kafkalog

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Names of the headers, in the order in which they are written. docs/topic.md explains each of them.
const (
	headerDot           = "tributary-dot"
	headerPosition      = "tributary-position"
	headerType          = "tributary-type"
	headerVersion       = "tributary-version"
	headerHLC           = "tributary-hlc"
	headerBatch         = "tributary-batch"
	headerEventID       = "tributary-event-id"
	headerContentType   = "content-type"
	headerKind          = "tributary-kind"
	headerSchemaVersion = "tributary-schema-version"
	headerCommandID     = "tributary-command-id"
	headerRequestHash   = "tributary-request-hash"
	headerCausation     = "tributary-causation"
	headerCorrelation   = "tributary-correlation"
	headerTraceParent   = "traceparent"
	headerTraceState    = "tracestate"
	headerActor         = "tributary-actor"
	headerTag           = "tributary-tag"
	headerContext       = "tributary-context"
	headerDep           = "tributary-dep"
	headerCell          = "tributary-cell"
	headerEpoch         = "tributary-epoch"
	headerKeyRef        = "tributary-key-ref"
	headerCRC           = "tributary-crc"

	// In a feed: the last event of the site's own log, and whether an event stands before others of its stream.
	headerOwn     = "tributary-own"
	headerRevises = "tributary-revises"

	// headerRecord marks what is not an event; its value is one of the names below.
	headerRecord    = "tributary-record"
	recordFence     = "fence"
	recordHeartbeat = "heartbeat"

	headerLog      = "tributary-log"
	headerWriter   = "tributary-writer"
	headerProducer = "tributary-producer"

	headerMirrored   = "tributary-mirrored"
	headerMirroredAt = "tributary-mirrored-at"
	headerChain      = "tributary-chain"
	headerHead       = "tributary-head"
	headerDurable    = "tributary-durable"
)

// Header is one header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record as any client hands it out. A client fills it from its own type.
type Record struct {
	// Offset is its place in the partition; not used to write.
	Offset int64
	// Time is the record's timestamp, to the millisecond.
	Time time.Time
	// Key and Value: nil is Kafka's null.
	Key, Value []byte
	Headers    []Header
}

// Entry is what a record of the topic says: an *Event, a *Fence or a *Heartbeat.
type Entry interface{ entry() }

// Event is a record that holds an event.
type Event struct {
	eventstore.Recorded
	// Own is, in a feed, the last event of the site's own log, in its present life, up to this one; seq 0 before the first. Elsewhere it is
	// zero.
	Own eventstore.Dot
}

// Fence is the first record of a mirror: from here on no earlier mirror writes.
type Fence struct {
	Log eventstore.LogID
	// Writer names one run of a mirror.
	Writer string
	// Producer is the Kafka producer id and epoch under which it writes.
	ProducerID    int64
	ProducerEpoch int16
	HLC           hlc.Timestamp
}

// Heartbeat says how far mirror and log have come, so that a reader can tell "nothing happened" from "something is
// missing".
type Heartbeat struct {
	Log eventstore.LogID
	// Mirrored is the last event before this record, MirroredAt its position and Chain the log's hash chain after it.
	// A zero Seq: the topic holds no event of this log yet.
	Mirrored   eventstore.Dot
	MirroredAt eventstore.Position
	Chain      eventstore.Hash
	// Position: every event born here up to this place of the log stands before this record.
	Position eventstore.Position
	// Head is the seq of the log's last durable own event, Durable the position of its last durable entry.
	Head    uint64
	Durable eventstore.Position
	HLC     hlc.Timestamp
	// Applied says how far the log had durably applied every other log.
	Applied eventstore.Vector
	// Own is, in a feed, the last event of the site's own log before this record, as in Event.
	Own eventstore.Dot
}

func (*Event) entry()     {}
func (*Fence) entry()     {}
func (*Heartbeat) entry() {}

// EncodeEvent returns the record of an event. frame is the event's canonical frame. The record shares the payload.
func EncodeEvent(e *eventstore.Recorded, frame []byte) Record {
	var enc encoder
	return enc.event(e, frame)
}

// encoder writes records. All text and all headers of the records since the last reset share two arrays, so that a batch
// costs few allocations. The zero value is ready.
type encoder struct {
	text    []byte
	headers []Header
	first   int            // of the headers of the record at hand
	own     eventstore.Dot // for a feed, see Event
}

// reset takes back the memory of all records that were given out.
func (enc *encoder) reset() {
	enc.text, enc.headers = enc.text[:0], enc.headers[:0]
}

// begin starts a record. An array that is full moves; what was cut from it before keeps the old one.
func (enc *encoder) begin() { enc.first = len(enc.headers) }

// record returns the record that has the headers written since begin.
func (enc *encoder) record(at hlc.Timestamp, key, value []byte) Record {
	end := len(enc.headers)
	return Record{Time: at.Time(), Key: key, Value: value, Headers: enc.headers[enc.first:end:end]}
}

func (enc *encoder) event(e *eventstore.Recorded, frame []byte) Record {
	enc.begin()
	enc.dot(headerDot, e.Dot)
	enc.position(headerPosition, e.Position)
	if enc.own.Log.Site != "" {
		enc.dot(headerOwn, enc.own)
		if e.Revises {
			enc.string(headerRevises, "true")
		}
	}
	enc.string(headerType, e.Type)
	enc.number(headerVersion, e.Version)
	enc.hlc(headerHLC, e.HLC)
	if e.Batch != (eventstore.Batch{FirstSeq: e.Dot.Seq, Count: 1}) {
		enc.put(headerBatch, func(b []byte) []byte {
			b = append(strconv.AppendUint(b, e.Batch.FirstSeq, 10), '+')
			return strconv.AppendUint(b, uint64(e.Batch.Count), 10)
		})
	}
	if e.Event.ID != (uuid.UUID{}) {
		enc.put(headerEventID, func(b []byte) []byte { return appendUUID(b, e.Event.ID) })
	}
	enc.string(headerContentType, e.Encoding.ContentType())
	if e.Kind != eventstore.KindDomain {
		enc.string(headerKind, e.Kind.String())
	}
	if e.SchemaVersion != 1 {
		enc.number(headerSchemaVersion, uint64(e.SchemaVersion))
	}
	enc.string(headerCommandID, e.CommandID)
	if e.RequestHash != (eventstore.Hash{}) {
		enc.hash(headerRequestHash, e.RequestHash)
	}
	enc.string(headerCausation, e.Causation)
	enc.string(headerCorrelation, e.Correlation)
	enc.string(headerTraceParent, e.TraceParent)
	enc.string(headerTraceState, e.TraceState)
	enc.string(headerActor, e.Actor)
	for _, tag := range e.Tags {
		enc.string(headerTag, tag)
	}
	enc.vector(headerContext, e.Context)
	enc.vector(headerDep, e.Dep)
	if e.Cell != eventstore.CellOf(e.Stream) {
		enc.number(headerCell, uint64(e.Cell))
	}
	if e.Epoch != 0 {
		enc.number(headerEpoch, uint64(e.Epoch))
	}
	if e.KeyRef != 0 {
		enc.number(headerKeyRef, uint64(e.KeyRef))
	}
	// The frame ends with its checksum.
	enc.put(headerCRC, func(b []byte) []byte { return hex.AppendEncode(b, frame[len(frame)-4:]) })

	value := e.Payload
	if value == nil {
		value = []byte{}
	}
	return enc.record(e.HLC, enc.key(e.Stream), value)
}

func (enc *encoder) fence(f *Fence) Record {
	enc.begin()
	enc.string(headerRecord, recordFence)
	enc.log(f.Log)
	enc.string(headerWriter, f.Writer)
	enc.put(headerProducer, func(b []byte) []byte {
		b = append(strconv.AppendInt(b, f.ProducerID, 10), '/')
		return strconv.AppendInt(b, int64(f.ProducerEpoch), 10)
	})
	enc.hlc(headerHLC, f.HLC)
	return enc.record(f.HLC, nil, nil)
}

func (enc *encoder) heartbeat(h *Heartbeat) Record {
	enc.begin()
	enc.string(headerRecord, recordHeartbeat)
	enc.log(h.Log)
	enc.dot(headerMirrored, h.Mirrored)
	enc.position(headerMirroredAt, h.MirroredAt)
	enc.hash(headerChain, h.Chain)
	enc.position(headerPosition, h.Position)
	enc.number(headerHead, h.Head)
	enc.position(headerDurable, h.Durable)
	enc.hlc(headerHLC, h.HLC)
	enc.vector(headerDep, h.Applied)
	if h.Own.Log.Site != "" {
		enc.dot(headerOwn, h.Own)
	}
	return enc.record(h.HLC, nil, nil)
}

// put adds a header whose value is what write appends.
func (enc *encoder) put(name string, write func([]byte) []byte) {
	start := len(enc.text)
	enc.text = write(enc.text)
	end := len(enc.text)
	enc.headers = append(enc.headers, Header{name, enc.text[start:end:end]})
}

// string adds a header unless its value is empty.
func (enc *encoder) string(name, value string) {
	if value != "" {
		enc.put(name, func(b []byte) []byte { return append(b, value...) })
	}
}

func (enc *encoder) number(name string, n uint64) {
	enc.put(name, func(b []byte) []byte { return strconv.AppendUint(b, n, 10) })
}

func (enc *encoder) hash(name string, h eventstore.Hash) {
	enc.put(name, func(b []byte) []byte { return hex.AppendEncode(b, h[:]) })
}

func (enc *encoder) hlc(name string, t hlc.Timestamp) {
	enc.put(name, func(b []byte) []byte {
		b = append(strconv.AppendInt(b, t.Time().UnixMilli(), 10), '.')
		return strconv.AppendUint(b, uint64(t.Logical()), 10)
	})
}

func (enc *encoder) log(l eventstore.LogID) {
	enc.put(headerLog, func(b []byte) []byte { return appendLog(b, l) })
}

func (enc *encoder) dot(name string, d eventstore.Dot) {
	enc.put(name, func(b []byte) []byte { return appendDot(b, d) })
}

func (enc *encoder) position(name string, p eventstore.Position) {
	enc.put(name, func(b []byte) []byte {
		b = append(strconv.AppendUint(b, uint64(p.Incarnation), 10), '-')
		return strconv.AppendUint(b, p.LSN, 10)
	})
}

// vector adds a header with the dots separated by commas, unless there are none.
func (enc *encoder) vector(name string, v eventstore.Vector) {
	if len(v) == 0 {
		return
	}
	enc.put(name, func(b []byte) []byte {
		for i, d := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendDot(b, d)
		}
		return b
	})
}

func (enc *encoder) key(s eventstore.StreamID) []byte {
	start := len(enc.text)
	enc.text = append(append(append(enc.text, s.Tenant...), '/'), s.Category...)
	enc.text = append(append(enc.text, '/'), s.ID...)
	return enc.text[start:len(enc.text):len(enc.text)]
}

// appendLog appends what LogID.String returns.
func appendLog(b []byte, l eventstore.LogID) []byte {
	b = append(b, "shard-"...)
	if l.Shard < 10 {
		b = append(b, '0')
	}
	b = append(strconv.AppendUint(b, uint64(l.Shard), 10), '@')
	b = append(append(b, l.Site...), '/')
	return strconv.AppendUint(b, uint64(l.Incarnation), 10)
}

func appendDot(b []byte, d eventstore.Dot) []byte {
	return strconv.AppendUint(append(appendLog(b, d.Log), '/'), d.Seq, 10)
}

func appendUUID(b []byte, id uuid.UUID) []byte {
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return append(b, text[:]...)
}

// framer makes canonical frames. The zero value is ready; a frame is valid until the next.
type framer struct {
	content, frame []byte
}

func (f *framer) of(e *eventstore.Recorded) []byte {
	f.content = eventstore.AppendContent(f.content[:0], e)
	f.frame = eventstore.AppendFrame(f.frame[:0], e, f.content)
	return f.frame
}

// frameOf returns the canonical frame of an event.
func frameOf(e *eventstore.Recorded) []byte { return new(framer).of(e) }

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", eventstore.ErrCorrupt, fmt.Sprintf(format, args...))
}

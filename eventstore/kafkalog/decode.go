package kafkalog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// ErrForeign: the record was not written by a mirror.
var ErrForeign = errors.New("not a record of a mirror")

// Decode returns what a record says: an *Event, a *Fence or a *Heartbeat. An event is checked against its checksum, which
// covers everything but its position. Errors match ErrForeign, for a record without a mirror's headers, or
// eventstore.ErrCorrupt. The payload shares the record's memory.
func Decode(r Record) (Entry, error) {
	var d decoder
	return d.decode(r)
}

// decoder keeps names that repeat without end, so that each is one string, and buffers. The zero value is ready.
type decoder struct {
	names map[string]string
	frame framer
}

const maxNames = 4096

// name returns one shared string for equal bytes.
func (d *decoder) name(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if d.names == nil {
		d.names = map[string]string{}
	}
	if len(d.names) < maxNames {
		d.names[s] = s
	}
	return s
}

func (d *decoder) decode(r Record) (Entry, error) {
	switch kind := recordKind(r.Headers); kind {
	case "":
		return nil, fmt.Errorf("record at offset %d: %w", r.Offset, ErrForeign)
	case headerDot:
		e := new(Event)
		if err := d.event(r, &e.Recorded); err != nil {
			return nil, fmt.Errorf("record at offset %d: %w", r.Offset, err)
		}
		var err error
		if e.Own, err = d.own(r); err != nil {
			return nil, err
		}
		return e, nil
	case recordFence, recordHeartbeat:
		entry, err := d.mark(r, kind)
		if err != nil {
			return nil, fmt.Errorf("record at offset %d: %w", r.Offset, err)
		}
		return entry, nil
	default:
		return nil, fmt.Errorf("record at offset %d is a %q: %w", r.Offset, kind, ErrForeign)
	}
}

// recordKind returns headerDot for an event, the kind that headerRecord names, or nothing for a foreign record.
func recordKind(headers []Header) string {
	for i := range headers {
		switch headers[i].Key {
		case headerDot:
			return headerDot
		case headerRecord:
			return string(headers[i].Value)
		}
	}
	return ""
}

// event fills e from the record and checks its checksum.
func (d *decoder) event(r Record, e *eventstore.Recorded) error {
	*e = eventstore.Recorded{}
	e.Kind, e.SchemaVersion = eventstore.KindDomain, 1
	if err := d.stream(r.Key, e); err != nil {
		return err
	}
	e.Cell = eventstore.CellOf(e.Stream)
	if len(r.Value) > 0 {
		e.Payload = r.Value
	}
	p := parser{names: d}
	var crc []byte
	for i := range r.Headers {
		h := &r.Headers[i]
		p.header = h.Key
		switch h.Key {
		case headerDot:
			e.Dot = p.dot(h.Value)
		case headerPosition:
			e.Position = p.position(h.Value)
		case headerType:
			e.Type = d.name(h.Value)
		case headerVersion:
			e.Version = p.number(h.Value, 64)
		case headerHLC:
			e.HLC = p.hlc(h.Value)
		case headerBatch:
			e.Batch = p.batch(h.Value)
		case headerEventID:
			e.Event.ID = p.uuid(h.Value)
		case headerContentType:
			e.Encoding = p.encoding(h.Value)
		case headerKind:
			e.Kind = p.kind(h.Value)
		case headerSchemaVersion:
			e.SchemaVersion = uint16(p.number(h.Value, 16))
		case headerCommandID:
			e.CommandID = string(h.Value)
		case headerRequestHash:
			e.RequestHash = p.hash(h.Value)
		case headerCausation:
			e.Causation = string(h.Value)
		case headerCorrelation:
			e.Correlation = string(h.Value)
		case headerTraceParent:
			e.TraceParent = string(h.Value)
		case headerTraceState:
			e.TraceState = string(h.Value)
		case headerActor:
			e.Actor = d.name(h.Value)
		case headerTag:
			e.Tags = append(e.Tags, string(h.Value))
		case headerContext:
			e.Context = p.vector(h.Value)
		case headerDep:
			e.Dep = p.vector(h.Value)
		case headerCell:
			e.Cell = uint16(p.number(h.Value, 16))
		case headerEpoch:
			e.Epoch = uint32(p.number(h.Value, 32))
		case headerKeyRef:
			e.KeyRef = uint32(p.number(h.Value, 32))
		case headerRevises:
			e.Revises = p.flag(h.Value)
		case headerCRC:
			crc = h.Value
		}
	}
	if p.err != nil {
		return p.err
	}
	if e.Batch == (eventstore.Batch{}) {
		e.Batch = eventstore.Batch{FirstSeq: e.Dot.Seq, Count: 1}
	}
	return d.check(e, crc)
}

// check compares the checksum of the event's frame with the one that the record carries.
func (d *decoder) check(e *eventstore.Recorded, crc []byte) error {
	frame := d.frame.of(e)
	sum := frame[len(frame)-4:]
	var want [4]byte
	if n, err := hex.Decode(want[:], crc[:min(len(crc), 8)]); err != nil || n != 4 || len(crc) != 8 {
		return corruptf("event %s: header %s is %q", e.Dot, headerCRC, crc)
	}
	if !bytes.Equal(sum, want[:]) {
		return corruptf("event %s: checksum is %x, should be %x: value, key or headers were changed", e.Dot, sum, want)
	}
	return nil
}

func (d *decoder) stream(key []byte, e *eventstore.Recorded) error {
	tenant, rest, ok := bytes.Cut(key, []byte("/"))
	category, id, ok2 := bytes.Cut(rest, []byte("/"))
	if !ok || !ok2 {
		return corruptf("key %q is not of the form tenant/category/id", key)
	}
	e.Stream = eventstore.StreamID{Tenant: d.name(tenant), Category: d.name(category), ID: string(id)}
	return nil
}

// own returns what a record of a feed says of the site's own log; zero for a record of another topic.
func (d *decoder) own(r Record) (eventstore.Dot, error) {
	for i := range r.Headers {
		if r.Headers[i].Key == headerOwn {
			p := parser{names: d, header: headerOwn}
			if dot := p.dot(r.Headers[i].Value); p.err == nil {
				return dot, nil
			}
			return eventstore.Dot{}, fmt.Errorf("record at offset %d: %w", r.Offset, p.err)
		}
	}
	return eventstore.Dot{}, nil
}

// mark decodes a fence or a heartbeat.
func (d *decoder) mark(r Record, kind string) (Entry, error) {
	p := parser{names: d}
	var f Fence
	var h Heartbeat
	for i := range r.Headers {
		v := r.Headers[i].Value
		p.header = r.Headers[i].Key
		switch p.header {
		case headerLog:
			f.Log = p.log(v)
			h.Log = f.Log
		case headerWriter:
			f.Writer = string(v)
		case headerProducer:
			f.ProducerID, f.ProducerEpoch = p.producer(v)
		case headerHLC:
			f.HLC = p.hlc(v)
			h.HLC = f.HLC
		case headerMirrored:
			h.Mirrored = p.dot(v)
		case headerMirroredAt:
			h.MirroredAt = p.position(v)
		case headerChain:
			h.Chain = p.hash(v)
		case headerPosition:
			h.Position = p.position(v)
		case headerHead:
			h.Head = p.number(v, 64)
		case headerDurable:
			h.Durable = p.position(v)
		case headerDep:
			h.Applied = p.vector(v)
		case headerOwn:
			h.Own = p.dot(v)
		}
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case kind == recordFence:
		return &f, nil
	}
	return &h, nil
}

// parser reads the text of headers; after the first fault everything it returns is zero.
type parser struct {
	names  *decoder
	header string
	err    error
}

func (p *parser) fail(v []byte) {
	if p.err == nil {
		p.err = corruptf("header %s is %q", p.header, v)
	}
}

func (p *parser) number(v []byte, bits int) uint64 {
	n, err := strconv.ParseUint(string(v), 10, bits)
	if err != nil {
		p.fail(v)
	}
	return n
}

func (p *parser) flag(v []byte) bool {
	if string(v) != "true" {
		p.fail(v)
	}
	return p.err == nil
}

// two reads a pair of numbers around a separator.
func (p *parser) two(v []byte, separator string, bits1, bits2 int) (uint64, uint64) {
	a, b, ok := bytes.Cut(v, []byte(separator))
	if !ok {
		p.fail(v)
		return 0, 0
	}
	return p.number(a, bits1), p.number(b, bits2)
}

func (p *parser) position(v []byte) eventstore.Position {
	incarnation, lsn := p.two(v, "-", 32, 64)
	return eventstore.Position{Incarnation: uint32(incarnation), LSN: lsn}
}

func (p *parser) hlc(v []byte) hlc.Timestamp {
	ms, logical := p.two(v, ".", 48, 16)
	return hlc.Timestamp(ms<<16 | logical)
}

func (p *parser) batch(v []byte) eventstore.Batch {
	first, count := p.two(v, "+", 64, 32)
	return eventstore.Batch{FirstSeq: first, Count: uint32(count)}
}

func (p *parser) producer(v []byte) (id int64, epoch int16) {
	a, b := p.two(v, "/", 63, 15)
	return int64(a), int16(b)
}

func (p *parser) uuid(v []byte) uuid.UUID {
	id, err := uuid.ParseBytes(v)
	if err != nil || len(v) != 36 {
		p.fail(v)
	}
	return id
}

func (p *parser) hash(v []byte) (h eventstore.Hash) {
	if len(v) != hex.EncodedLen(len(h)) {
		p.fail(v)
		return h
	}
	if _, err := hex.Decode(h[:], v); err != nil {
		p.fail(v)
	}
	return h
}

func (p *parser) encoding(v []byte) eventstore.Encoding {
	e, err := eventstore.ParseContentType(p.names.name(v))
	if err != nil {
		p.fail(v)
	}
	return e
}

func (p *parser) kind(v []byte) eventstore.Kind {
	k, err := eventstore.ParseKind(p.names.name(v))
	if err != nil {
		p.fail(v)
	}
	return k
}

// log reads what LogID.String writes: shard-01@site/incarnation.
func (p *parser) log(v []byte) eventstore.LogID {
	rest, ok := bytes.CutPrefix(v, []byte("shard-"))
	shard, rest, ok2 := bytes.Cut(rest, []byte("@"))
	site, incarnation, ok3 := bytes.Cut(rest, []byte("/"))
	if !ok || !ok2 || !ok3 {
		p.fail(v)
		return eventstore.LogID{}
	}
	return eventstore.LogID{
		Site:        p.names.name(site),
		Incarnation: uint32(p.number(incarnation, 32)),
		Shard:       uint16(p.number(shard, 16)),
	}
}

// dot reads what Dot.String writes: shard-01@site/incarnation/seq.
func (p *parser) dot(v []byte) eventstore.Dot {
	i := bytes.LastIndexByte(v, '/')
	if i < 0 {
		p.fail(v)
		return eventstore.Dot{}
	}
	return eventstore.Dot{Log: p.log(v[:i]), Seq: p.number(v[i+1:], 64)}
}

func (p *parser) vector(v []byte) eventstore.Vector {
	var vector eventstore.Vector
	for part := range bytes.SplitSeq(v, []byte(",")) {
		if vector = append(vector, p.dot(part)); p.err != nil {
			return nil
		}
	}
	return vector
}

// sequence returns the seq that a record claims, without looking at the rest; ok is false for what is not an event.
func sequence(headers []Header) (d eventstore.Dot, ok bool) {
	for i := range headers {
		if headers[i].Key == headerDot {
			p := parser{names: new(decoder), header: headerDot}
			d = p.dot(headers[i].Value)
			return d, p.err == nil
		}
	}
	return eventstore.Dot{}, false
}

// positionOf returns the position that a record claims, without looking at the rest.
func positionOf(headers []Header) (p eventstore.Position, ok bool) {
	for i := range headers {
		if headers[i].Key == headerPosition {
			d := parser{names: new(decoder), header: headerPosition}
			p = d.position(headers[i].Value)
			return p, d.err == nil
		}
	}
	return eventstore.Position{}, false
}

// TopicOf returns the name of the topic that holds the events born at a site.
func TopicOf(site string) string {
	return "tributary." + site + ".events"
}

package wire

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Defaults fill what a request's message leaves out.
type Defaults struct{ Tenant, ID, Durability string }

// Fill fills a message.
func (d *Defaults) Fill(m *storev1.AppendRequest) {
	m.Tenant = cmp.Or(m.GetTenant(), d.Tenant)
	m.RequestId = cmp.Or(m.GetRequestId(), d.ID)
	m.Durability = cmp.Or(m.GetDurability(), d.Durability)
}

// RequestReader reads AppendRequests off their wire form. The generated code needs the messages first, with a dozen
// allocations for a request of one event and five for each further one. What it does not know it leaves to that code, so
// that the two always say the same: what is rare (payload_json, context), what is odd (a message in two pieces) and what is
// wrong.
//
// A reader keeps memory for the next request. It is used by one goroutine.
type RequestReader struct {
	texts  []byte // of the request, one after the other
	names  []name
	events int  // of the request
	empty  bool // a text is given and empty, which no code writes
}

// name is where a text of a request goes, and where it stands in texts.
type name struct {
	to         *string
	begin, end int
}

// errElse says that the generated code is to read the request.
var errElse = errors.New("left to the generated code")

// Read sets *r to the request of a message. Its payloads share b's memory, which belongs to the request from then on; nothing
// else does, so that keeping a name keeps no payload. expects says that the first stream names an expectation. Errors match
// eventstore.ErrInvalid or eventstore.ErrTooLarge.
func (d *RequestReader) Read(r *eventstore.Request, b []byte, defaults *Defaults) (expects bool, err error) {
	d.texts, d.names, d.events, d.empty = d.texts[:0], d.names[:0], 0, false
	if expects, err = d.request(r, b, defaults); !errors.Is(err, errElse) {
		return expects, err
	}
	m := &storev1.AppendRequest{}
	if err := proto.Unmarshal(b, m); err != nil {
		return false, invalidf("read request: %w", err)
	}
	defaults.Fill(m)
	if *r, err = DecodeRequest(m); err != nil {
		return false, err
	}
	return len(m.GetAppends()) > 0 && m.GetAppends()[0].GetExpect() != nil, nil
}

// field is a field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	bytes  []byte // of a field with a length
	value  uint64 // of a number
}

// next reads a field and returns what follows it.
func next(b []byte) (f field, rest []byte, err error) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, errElse
	}
	f.number, f.kind = number, kind
	b = b[n:]
	switch kind {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b)
	default:
		return f, nil, errElse
	}
	if n < 0 {
		return f, nil, errElse
	}
	return f, b[n:], nil
}

// errTooMany is found before room is made for what is too much anyway.
var errTooMany = fmt.Errorf("%w: more than %d streams, events or tags in one request", eventstore.ErrTooLarge, eventstore.MaxRequestEvents)

// count returns how often a field with a length stands in a message.
func (d *RequestReader) count(b []byte, number protowire.Number) (n int, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return 0, err
		}
		if f.number == number && f.kind == protowire.BytesType {
			n++
		}
	}
	if n > eventstore.MaxRequestEvents {
		return 0, errTooMany
	}
	return n, nil
}

// as returns an error unless a field is of a kind: the generated code passes over what it does not know.
func (f *field) as(kind protowire.Type) error {
	if f.kind != kind {
		return errElse
	}
	return nil
}

func (d *RequestReader) request(r *eventstore.Request, b []byte, defaults *Defaults) (expects bool, err error) {
	*r = eventstore.Request{Tenant: cmp.Or(defaults.Tenant, eventstore.DefaultTenant), ID: defaults.ID}
	n, err := d.count(b, 3)
	if err != nil {
		return false, err
	}
	r.Appends = make([]eventstore.StreamAppend, n)
	appends, durability, metadata := 0, defaults.Durability, 0
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return false, err
		}
		if err := f.as(protowire.BytesType); err != nil {
			return false, err
		}
		switch f.number {
		case 1:
			d.text(&r.Tenant, f.bytes)
		case 2:
			d.text(&r.ID, f.bytes)
		case 3:
			named, err := d.streamAppend(&r.Appends[appends], f.bytes)
			if err != nil {
				return false, err
			}
			expects = expects || named && appends == 0
			appends++
		case 5:
			durability = cmp.Or(string(f.bytes), defaults.Durability)
		case 4:
			if r.Condition != nil {
				return false, errElse
			}
			r.Condition, err = readCondition(f.bytes)
		case 6:
			metadata++
			err = d.metadata(&r.Metadata, f.bytes)
		case 7:
			if len(f.bytes) != len(r.Hash) {
				return false, errElse
			}
			copy(r.Hash[:], f.bytes)
		default:
			err = errElse
		}
		if err != nil {
			return false, err
		}
		if metadata > 1 {
			return false, errElse
		}
	}
	if r.Durability, err = eventstore.ParseDurability(durability); err != nil || d.empty {
		return false, errElse
	}
	d.cut()
	for i := range r.Appends {
		r.Appends[i].Stream.Tenant = r.Tenant
	}
	return expects, nil
}

func (d *RequestReader) streamAppend(a *eventstore.StreamAppend, b []byte) (expects bool, err error) {
	n, err := d.count(b, 7)
	if err != nil {
		return false, err
	}
	if d.events += n; d.events > eventstore.MaxRequestEvents {
		return false, errTooMany
	}
	a.Events = make([]eventstore.Event, n)
	events, last := 0, name{}
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return false, err
		}
		kind := protowire.BytesType
		if f.number >= 3 && f.number <= 6 {
			kind = protowire.VarintType
		}
		if err := f.as(kind); err != nil {
			return false, err
		}
		switch f.number {
		case 1:
			d.text(&a.Stream.Category, f.bytes)
		case 2:
			d.text(&a.Stream.ID, f.bytes)
		case 3, 4, 5:
			if f.value != 1 {
				return false, errElse
			}
			a.Expect = [...]eventstore.Expect{eventstore.Any, eventstore.NoStream, eventstore.Exists}[f.number-3]
			expects = true
		case 6:
			a.Expect, expects = eventstore.Exactly(f.value), true
		case 7:
			if last, err = d.event(&a.Events[events], last, f.bytes); err != nil {
				return false, err
			}
			events++
		default:
			return false, errElse
		}
	}
	return expects, nil
}

// event reads an event. last is the type of the event before, which it mostly shares.
func (d *RequestReader) event(e *eventstore.Event, last name, b []byte) (typ name, err error) {
	tags, err := d.count(b, 7)
	if err != nil {
		return typ, err
	}
	if tags > 0 {
		e.Tags = make([]string, 0, tags)
	}
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return typ, err
		}
		kind := protowire.BytesType
		if f.number == 3 || f.number == 9 {
			kind = protowire.VarintType
		}
		if err := f.as(kind); err != nil {
			return typ, err
		}
		switch f.number {
		case 1:
			err = readID(&e.ID, f.bytes)
		case 2:
			typ = d.same(&e.Type, last, f.bytes)
		case 3:
			e.SchemaVersion = uint16(f.value)
			if f.value > 0xffff {
				return typ, errElse
			}
		case 4:
			e.Encoding, err = eventstore.ParseContentType(string(f.bytes))
		case 5:
			e.Payload = f.bytes[:len(f.bytes):len(f.bytes)]
		case 7:
			e.Tags = append(e.Tags, "")
			d.text(&e.Tags[len(e.Tags)-1], f.bytes)
		case 8:
			e.Kind, err = eventstore.ParseKind(string(f.bytes))
		case 9:
			e.KeyRef = uint32(f.value)
		default:
			err = errElse
		}
		if err != nil {
			return typ, errElse // what is wrong with it the other code says
		}
	}
	return typ, nil
}

func readID(id *uuid.UUID, b []byte) (err error) {
	if len(b) == 0 {
		*id = uuid.UUID{}
		return nil
	}
	*id, err = uuid.ParseBytes(b)
	return err
}

// readCondition reads a condition: a small part, of which the generated code makes few messages.
func readCondition(b []byte) (c *eventstore.Condition, err error) {
	m := &storev1.Condition{}
	if proto.Unmarshal(b, m) != nil {
		return nil, errElse
	}
	c = &eventstore.Condition{Query: DecodeQuery(m.GetQuery())}
	if c.After, err = DecodePosition(m.GetAfter()); err != nil {
		return nil, errElse
	}
	return c, nil
}

func (d *RequestReader) metadata(m *eventstore.Metadata, b []byte) (err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return err
		}
		if err := f.as(protowire.BytesType); err != nil {
			return err
		}
		switch f.number {
		case 1:
			d.text(&m.Causation, f.bytes)
		case 2:
			d.text(&m.Correlation, f.bytes)
		case 3:
			d.text(&m.TraceParent, f.bytes)
		case 4:
			d.text(&m.TraceState, f.bytes)
		case 5:
			d.text(&m.Actor, f.bytes)
		default:
			return errElse
		}
	}
	return nil
}

// text has a text stand in *to once the request is read.
func (d *RequestReader) text(to *string, b []byte) name {
	n := name{to, len(d.texts), len(d.texts) + len(b)}
	d.empty = d.empty || len(b) == 0
	d.texts = append(d.texts, b...)
	d.names = append(d.names, n)
	return n
}

// same is text for what is mostly the same as another.
func (d *RequestReader) same(to *string, other name, b []byte) name {
	if other.to == nil || !bytes.Equal(d.texts[other.begin:other.end], b) {
		return d.text(to, b)
	}
	other.to = to
	d.names = append(d.names, other)
	return other
}

// cut puts the texts where they go: parts of one string.
func (d *RequestReader) cut() {
	all := string(d.texts)
	for i, n := range d.names {
		*n.to = all[n.begin:n.end]
		d.names[i].to = nil
	}
	if cap(d.texts) > largestKept {
		*d = RequestReader{}
	}
}

// SessionAppends yields the appends of an AppendSessionRequest, off its wire form: the number and the AppendRequest of each,
// nil where there is none. It ends with yield's error, or with one that matches eventstore.ErrInvalid.
func SessionAppends(b []byte, yield func(number uint64, request []byte) error) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil || f.number != 1 || f.kind != protowire.BytesType {
			return sessionAppendsElse(b, yield)
		}
		number, request, err := sessionAppend(f.bytes)
		if err != nil {
			return sessionAppendsElse(b, yield)
		}
		if err := yield(number, request); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func sessionAppend(b []byte) (number uint64, request []byte, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return 0, nil, err
		}
		switch {
		case f.number == 1 && f.kind == protowire.VarintType:
			number = f.value
		case f.number == 2 && f.kind == protowire.BytesType && request == nil:
			request = f.bytes[:len(f.bytes):len(f.bytes)]
		default:
			return 0, nil, errElse
		}
	}
	return number, request, nil
}

// sessionAppendsElse leaves it to the generated code to take the rest of a message apart.
func sessionAppendsElse(b []byte, yield func(number uint64, request []byte) error) error {
	m := &storev1.AppendSessionRequest{}
	if err := proto.Unmarshal(b, m); err != nil {
		return invalidf("read appends: %w", err)
	}
	for _, a := range m.GetAppends() {
		var request []byte
		if a.GetRequest() != nil {
			var err error
			if request, err = proto.Marshal(a.GetRequest()); err != nil {
				return fmt.Errorf("read appends: %w", err)
			}
		}
		if err := yield(a.GetNumber(), request); err != nil {
			return err
		}
	}
	return nil
}

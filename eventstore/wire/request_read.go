package wire

import (
	"bytes"
	"cmp"
	"errors"
	"unicode/utf8"

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
// A reader keeps memory for the next request, little of it and nothing of the request. It is used by one goroutine.
type RequestReader struct {
	texts  []byte // of the request, one after the other
	names  []name
	events int // of the request
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
	expects, err = d.request(r, b, defaults)
	d.rest()
	if !errors.Is(err, errElse) {
		return expects, err
	}
	if err := bounded(b); err != nil {
		return false, err
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
			err = d.text(&r.Tenant, f.bytes)
		case 2:
			err = d.text(&r.ID, f.bytes)
		case 3:
			named, err := d.streamAppend(&r.Appends[appends], f.bytes)
			if err != nil {
				return false, err
			}
			expects = expects || named && appends == 0
			appends++
		case 5:
			durability = cmp.Or(string(f.bytes), defaults.Durability)
			if !utf8.Valid(f.bytes) {
				err = errElse
			}
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
	if r.Durability, err = eventstore.ParseDurability(durability); err != nil {
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
			err = d.text(&a.Stream.Category, f.bytes)
		case 2:
			err = d.text(&a.Stream.ID, f.bytes)
		case 3, 4, 5:
			if f.value != 1 {
				return false, errElse
			}
			a.Expect = [...]eventstore.Expect{eventstore.Any, eventstore.NoStream, eventstore.Exists}[f.number-3]
			expects = true
		case 6:
			expects = true
			a.Expect, err = exactly(f.value)
		case 7:
			last, err = d.event(&a.Events[events], last, f.bytes)
			events++
		default:
			err = errElse
		}
		if err != nil {
			return false, err
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
			typ, err = d.same(&e.Type, last, f.bytes)
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
			if len(f.bytes) == 0 {
				return typ, errEmptyTag
			}
			e.Tags = append(e.Tags, "")
			err = d.text(&e.Tags[len(e.Tags)-1], f.bytes)
		case 8:
			e.Kind, err = eventstore.ParseKind(string(f.bytes))
		case 9:
			e.KeyRef = uint32(f.value)
		default:
			err = errElse
		}
		if err != nil && !errors.Is(err, errTooMany) {
			err = errElse // what is wrong with it the other code says
		}
		if err != nil {
			return typ, err
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
	if items, parts := conditionOf(b); !boundedCondition(items, parts) {
		return nil, errLargeCondition
	}
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
			err = d.text(&m.Causation, f.bytes)
		case 2:
			err = d.text(&m.Correlation, f.bytes)
		case 3:
			err = d.text(&m.TraceParent, f.bytes)
		case 4:
			err = d.text(&m.TraceState, f.bytes)
		case 5:
			err = d.text(&m.Actor, f.bytes)
		default:
			err = errElse
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text has a text stand in *to once the request is read. An empty one, which no code writes, takes the place of what the
// message said before: the generated code knows of what.
func (d *RequestReader) text(to *string, b []byte) error {
	if len(b) == 0 || !utf8.Valid(b) {
		return errElse
	}
	begin := len(d.texts)
	d.texts = append(d.texts, b...)
	return d.name(name{to, begin, len(d.texts)})
}

func (d *RequestReader) name(n name) error {
	if len(d.names) == maxNames {
		return errTooMany
	}
	d.names = append(d.names, n)
	return nil
}

// same is text for what is mostly the same as another. It returns which it is.
func (d *RequestReader) same(to *string, other name, b []byte) (name, error) {
	if other.to == nil || !bytes.Equal(d.texts[other.begin:other.end], b) {
		if err := d.text(to, b); err != nil {
			return name{}, err
		}
		return d.names[len(d.names)-1], nil
	}
	other.to = to
	return other, d.name(other)
}

// cut puts the texts where they go: parts of one string.
func (d *RequestReader) cut() {
	all := string(d.texts)
	for _, n := range d.names {
		*n.to = all[n.begin:n.end]
	}
}

// rest forgets the request, and lets memory go that few requests need.
func (d *RequestReader) rest() {
	if cap(d.texts) > mostTexts || cap(d.names) > mostNames {
		*d = RequestReader{}
		return
	}
	clear(d.names)
	d.texts, d.names, d.events = d.texts[:0], d.names[:0], 0
}

// SessionAppends yields the appends of an AppendSessionRequest, off its wire form: the number and the AppendRequest of each,
// nil where there is none. It ends with yield's error, or with one that matches eventstore.ErrInvalid. The generated code
// would make all appends' messages at once, of which a request of a few megabytes can hold millions.
func SessionAppends(b []byte, yield func(number uint64, request []byte) error) error {
	for len(b) > 0 {
		var f field
		var err error
		if f, b, err = nextKnown(b); err != nil {
			return err
		}
		if f.number != 1 || f.kind != protowire.BytesType {
			continue
		}
		number, request, err := sessionAppend(f.bytes)
		if err == nil {
			err = yield(number, request)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sessionAppend(b []byte) (number uint64, request []byte, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = nextKnown(b); err != nil {
			return 0, nil, err
		}
		switch {
		case f.number == 1 && f.kind == protowire.VarintType:
			number = f.value
		case f.number == 2 && f.kind == protowire.BytesType && request == nil:
			request = f.bytes[:len(f.bytes):len(f.bytes)]
		case f.number == 2 && f.kind == protowire.BytesType: // pieces of a message make one
			request = append(request, f.bytes...)
		}
	}
	return number, request, nil
}

// nextKnown is next where all is read by hand: fields of other kinds are passed over.
func nextKnown(b []byte) (f field, rest []byte, err error) {
	if f, rest, err = next(b); err == nil {
		return f, rest, nil
	}
	_, _, n := protowire.ConsumeField(b)
	if n < 0 {
		return f, nil, invalidf("read appends: %w", protowire.ParseError(n))
	}
	return field{}, b[n:], nil
}

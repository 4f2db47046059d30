package commands

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
)

// ErrUnknownEvent: a codec met a wire name or a Go type that it was not made with.
var ErrUnknownEvent = errors.New("event is unknown to this program")

// Described is implemented by codecs of protobuf messages: they say what the events of each wire name look like, old names
// included where that is known.
type Described interface {
	Messages() map[string]protoreflect.MessageDescriptor
}

// wireNames binds wire names to Go types, both ways. It is immutable once made.
type wireNames[E any] struct {
	encoding eventstore.Encoding
	byType   map[reflect.Type]wireName
	byName   map[string]func(*eventstore.Recorded) (E, error)
	messages map[string]protoreflect.MessageDescriptor
	old      map[string]bool // names that are only read
	// err is what was wrong with the declaration; Register reports it, and so do Encode and Decode.
	err error
}

type wireName struct {
	name   string
	schema uint16
}

// newWireNames checks a codec's declaration. decoder returns how to decode events of the prototype's type.
func newWireNames[E any](
	encoding eventstore.Encoding, current map[string]E, old []Upcast[E],
	decoder func(prototype E) (func(*eventstore.Recorded) (E, error), error),
) wireNames[E] {
	w := wireNames[E]{
		encoding: encoding,
		byType:   make(map[reflect.Type]wireName, len(current)),
		byName:   make(map[string]func(*eventstore.Recorded) (E, error), len(current)+len(old)),
		messages: map[string]protoreflect.MessageDescriptor{},
		old:      map[string]bool{},
	}
	var faults []error
	// Sorted, so that the same faults give the same text.
	for _, name := range slices.Sorted(maps.Keys(current)) {
		prototype := current[name]
		schema, err := schemaVersion(name)
		faults = append(faults, err)
		t := reflect.TypeOf(prototype)
		if t == nil {
			faults = append(faults, fmt.Errorf("event %s: prototype is nil", name))
			continue
		}
		if twin, ok := w.byType[t]; ok {
			faults = append(faults, fmt.Errorf("events %s and %s have the same Go type %s", twin.name, name, t))
		}
		decode, err := decoder(prototype)
		if err != nil {
			faults = append(faults, fmt.Errorf("event %s: %w", name, err))
		}
		w.byType[t] = wireName{name, schema}
		w.byName[name] = decode
		if m, ok := any(prototype).(proto.Message); ok && encoding == eventstore.Protobuf {
			w.messages[name] = m.ProtoReflect().Descriptor()
		}
	}
	faults = append(faults, w.addOld(old)...)
	if len(current) == 0 {
		faults = append(faults, errors.New("codec has no events"))
	}
	w.err = errors.Join(faults...)
	return w
}

// declaration returns what is wrong with the codec's declaration.
func (w *wireNames[E]) declaration() error { return w.err }

// nameOf returns the wire name that e is recorded under.
func (w *wireNames[E]) nameOf(e E) (wireName, error) {
	if w.err != nil {
		return wireName{}, w.err
	}
	n, ok := w.byType[reflect.TypeOf(e)]
	if !ok {
		return wireName{}, fmt.Errorf("encode %T: %w", e, ErrUnknownEvent)
	}
	return n, nil
}

// Decode implements Codec.
func (w *wireNames[E]) Decode(r *eventstore.Recorded) (e E, err error) {
	if w.err != nil {
		return e, w.err
	}
	decode, ok := w.byName[r.Type]
	if !ok {
		return e, fmt.Errorf("decode %s: %w", r.Type, ErrUnknownEvent)
	}
	if e, err = decode(r); err != nil {
		return e, fmt.Errorf("decode %s: %w", r.Type, err)
	}
	return e, nil
}

// Messages implements Described.
func (w *wireNames[E]) Messages() map[string]protoreflect.MessageDescriptor {
	return maps.Clone(w.messages)
}

// Types implements Codec; the names are sorted, old ones included.
func (w *wireNames[E]) Types() []string { return slices.Sorted(maps.Keys(w.byName)) }

// event returns the event with everything but the payload filled.
func (w *wireNames[E]) event(n wireName, payload []byte) eventstore.Event {
	return eventstore.Event{Type: n.name, SchemaVersion: n.schema, Encoding: w.encoding, Payload: payload}
}

// expectEncoding checks that an event is encoded as the codec reads it.
func expectEncoding(r *eventstore.Recorded, want eventstore.Encoding) error {
	if r.Encoding != want {
		return fmt.Errorf("payload is %s, should be %s", r.Encoding.ContentType(), want.ContentType())
	}
	return nil
}

// schemaVersion checks a wire name, "category.event.vN", and returns N.
func schemaVersion(name string) (uint16, error) {
	parts := strings.Split(name, ".")
	last := parts[len(parts)-1]
	bad := len(parts) < 3 || !strings.HasPrefix(last, "v")
	for _, p := range parts {
		bad = bad || p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_-$") != ""
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(last, "v"), 10, 16)
	if bad || err != nil || n == 0 {
		return 0, fmt.Errorf("event name %q is not of the form category.event.vN in lower case", name)
	}
	return uint16(n), nil
}

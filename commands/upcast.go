package commands

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
)

// Upcast reads events that an older program recorded under a wire name that is no longer written: at once, with Decode, or in
// steps, from one version to the next. UpcastProto and UpcastJSON make the former from the old shape, StepProto and StepJSON
// the latter from the old shape and the next one; a literal may decode by hand.
//
// Steps make chains: when v3 comes, the step from v1 to v2 stays as it is, and only the one from v2 to v3 is new. A codec is
// refused when a step leads to a name that it does not know, or to one whose message is another, and when a version between
// two that it knows is missing.
type Upcast[E any] struct {
	// Name is the old wire name, "order.created.v1".
	Name string
	// Decode returns the event as the current program knows it. It sees type, schema version, encoding and payload of
	// the event, and nothing else that differs between two readings of it.
	Decode func(*eventstore.Recorded) (E, error)
	// To and Step stand in place of Decode: Step returns the payload as it would have been recorded under the wire name To.
	To   string
	Step func(*eventstore.Recorded) ([]byte, error)
	// Message describes what was recorded under the name; nil when it was no protobuf message, or is not known.
	Message protoreflect.MessageDescriptor

	// next is the message that Step writes; nil when it is not known.
	next protoreflect.MessageDescriptor
}

// StepProto lifts events recorded under an old wire name, as messages of type Old, to what was recorded under the next one.
func StepProto[Old, Next, E proto.Message](name, to string, lift func(Old) (Next, error)) Upcast[E] {
	var prototype Old
	var next Next
	return Upcast[E]{
		Name: name, To: to, Message: prototype.ProtoReflect().Descriptor(), next: next.ProtoReflect().Descriptor(),
		Step: func(r *eventstore.Recorded) ([]byte, error) {
			old, err := decodeProto(r, prototype)
			if err != nil {
				return nil, err
			}
			lifted, err := lift(old)
			if err != nil {
				return nil, err
			}
			return proto.MarshalOptions{Deterministic: true}.Marshal(lifted)
		},
	}
}

// StepJSON lifts events recorded under an old wire name, as values of type Old, to what was recorded under the next one.
func StepJSON[Old, Next, E any](name, to string, lift func(Old) (Next, error)) Upcast[E] {
	return Upcast[E]{Name: name, To: to, Step: func(r *eventstore.Recorded) ([]byte, error) {
		var old Old
		if err := decodeJSON(r, &old); err != nil {
			return nil, err
		}
		lifted, err := lift(old)
		if err != nil {
			return nil, err
		}
		return json.Marshal(lifted)
	}}
}

// Current returns an event as the current program would have recorded it: one of an old name upcast and encoded anew, with
// everything else left as it was, and any other as it is. So a projection that reads payloads by their type sees
// old events as new ones; it has to ask for codec.Types(), which has the old names.
func Current[E any](codec Codec[E], r *eventstore.Recorded) (*eventstore.Recorded, error) {
	if c, ok := codec.(interface{ isOld(name string) bool }); ok && !c.isOld(r.Type) {
		return r, nil
	}
	e, err := codec.Decode(r)
	if err != nil {
		return nil, err
	}
	now, err := codec.Encode(e)
	if err != nil {
		return nil, err
	}
	out := *r
	out.Type, out.SchemaVersion, out.Encoding = now.Type, now.SchemaVersion, now.Encoding
	if r.Opened != nil {
		out.Opened = now.Payload
	} else {
		out.Payload = now.Payload
	}
	return &out, nil
}

// isOld reports whether a wire name is only read.
func (w *wireNames[E]) isOld(name string) bool { return w.old[name] }

// addOld adds what is only read, and returns what is wrong with it.
func (w *wireNames[E]) addOld(old []Upcast[E]) (faults []error) {
	for _, u := range old {
		if _, err := schemaVersion(u.Name); err != nil {
			faults = append(faults, err)
		}
		if _, ok := w.byName[u.Name]; ok {
			faults = append(faults, fmt.Errorf("event %s is declared twice", u.Name))
		}
		decode := u.Decode
		switch {
		case u.Decode == nil && u.Step == nil:
			faults = append(faults, fmt.Errorf("upcast of %s: Decode is nil", u.Name))
		case u.Decode != nil && u.Step != nil:
			faults = append(faults, fmt.Errorf("upcast of %s: it has both Decode and Step", u.Name))
		case u.Step != nil:
			decode = w.stepping(u)
		}
		w.byName[u.Name], w.old[u.Name] = decode, true
		if u.Message != nil {
			w.messages[u.Name] = u.Message
		}
	}
	return append(faults, w.checkSteps(old)...)
}

// stepping returns what reads an event by a step, and then as what it was lifted to.
func (w *wireNames[E]) stepping(u Upcast[E]) func(*eventstore.Recorded) (E, error) {
	byName := w.byName
	return func(r *eventstore.Recorded) (e E, err error) {
		payload, err := u.Step(r)
		if err != nil {
			return e, fmt.Errorf("lift to %s: %w", u.To, err)
		}
		next := *r
		next.Type = u.To
		if next.SchemaVersion, err = schemaVersion(u.To); err != nil {
			return e, err
		}
		if r.Opened != nil {
			next.Opened = payload
		} else {
			next.Payload = payload
		}
		return byName[u.To](&next)
	}
}

// checkSteps checks that every step leads somewhere, that none leads in a circle, and that no version is missing between two.
func (w *wireNames[E]) checkSteps(old []Upcast[E]) (faults []error) {
	to := map[string]string{}
	for _, u := range old {
		if u.Step == nil {
			continue
		}
		to[u.Name] = u.To
		there := w.messages[u.To]
		switch {
		case w.byName[u.To] == nil:
			faults = append(faults, fmt.Errorf("upcast of %s leads to %s, which this codec does not know: declare it, or the upcast from it", u.Name, u.To))
		case u.next != nil && there != nil && u.next.FullName() != there.FullName():
			faults = append(faults, fmt.Errorf("upcast of %s leads to %s as a %s, which is a %s", u.Name, u.To, u.next.FullName(), there.FullName()))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		at := name
		for range len(to) + 1 {
			at = to[at]
		}
		if at != "" {
			faults = append(faults, fmt.Errorf("upcast of %s leads in a circle", name))
		}
	}
	return append(faults, w.checkVersions()...)
}

func (w *wireNames[E]) checkVersions() (faults []error) {
	versions := map[string][]uint16{}
	for name := range w.byName {
		if n, err := schemaVersion(name); err == nil {
			stem := name[:strings.LastIndexByte(name, '.')]
			versions[stem] = append(versions[stem], n)
		}
	}
	for _, stem := range slices.Sorted(maps.Keys(versions)) {
		known := versions[stem]
		slices.Sort(known)
		for i := 1; i < len(known); i++ {
			if missing := known[i-1] + 1; missing < known[i] {
				faults = append(faults, fmt.Errorf("event %s.v%d is missing between v%d and v%d: declare an upcast for it", stem, missing, known[i-1], known[i]))
			}
		}
	}
	return faults
}

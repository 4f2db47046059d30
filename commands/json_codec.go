package commands

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/tributary-es/tributary/eventstore"
)

// JSONCodec returns a codec for events that are plain Go values. current maps each wire name to a value of the type that
// is recorded under it, such as {"points.earned.v1": Earned{}}; old lists names that are only read. Fields that a payload
// has and the type has not are passed over. Declarations are checked as ProtoCodec's are.
func JSONCodec[E any](current map[string]E, old ...Upcast[E]) Codec[E] {
	return &jsonCodec[E]{newWireNames(eventstore.JSON, current, old, jsonDecoder)}
}

// UpcastJSON reads events recorded under an old wire name as values of type Old and lifts them to what replaced them.
func UpcastJSON[Old, E any](name string, lift func(Old) (E, error)) Upcast[E] {
	return Upcast[E]{Name: name, Decode: func(r *eventstore.Recorded) (e E, err error) {
		var old Old
		if err := decodeJSON(r, &old); err != nil {
			return e, err
		}
		return lift(old)
	}}
}

type jsonCodec[E any] struct{ wireNames[E] }

// Encode implements Codec.
func (c *jsonCodec[E]) Encode(e E) (eventstore.Event, error) {
	n, err := c.nameOf(e)
	if err != nil {
		return eventstore.Event{}, err
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("encode %s: %w", n.name, err)
	}
	return c.event(n, payload), nil
}

func jsonDecoder[E any](prototype E) (func(*eventstore.Recorded) (E, error), error) {
	t := reflect.TypeOf(prototype)
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Func || t.Kind() == reflect.Chan {
		return nil, fmt.Errorf("%s cannot be JSON", t)
	}
	return func(r *eventstore.Recorded) (e E, err error) {
		fresh := reflect.New(t)
		if err := decodeJSON(r, fresh.Interface()); err != nil {
			return e, err
		}
		if !pointer {
			fresh = fresh.Elem()
		}
		return fresh.Interface().(E), nil
	}, nil
}

func decodeJSON(r *eventstore.Recorded, into any) error {
	if err := expectEncoding(r, eventstore.JSON); err != nil {
		return err
	}
	return json.Unmarshal(r.Body(), into)
}

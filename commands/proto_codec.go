package commands

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
)

// ProtoCodec returns a codec for events that are protobuf messages. current maps each wire name to an empty message of
// the type that is recorded under it, such as {"order.created.v1": &orderpb.Created{}}; old lists names that are only
// read. What is wrong with the declaration (a bad name, a type under two names) is reported by Register, and by every
// use of the codec.
//
// Payloads are encoded deterministically: the same message gives the same bytes in one version of the program.
func ProtoCodec[E proto.Message](current map[string]E, old ...Upcast[E]) Codec[E] {
	return &protoCodec[E]{newWireNames(eventstore.Protobuf, current, old, protoDecoder)}
}

// UpcastProto reads events recorded under an old wire name as messages of type Old and lifts them to what replaced them.
func UpcastProto[Old proto.Message, E any](name string, lift func(Old) (E, error)) Upcast[E] {
	var prototype Old
	return Upcast[E]{Name: name, Message: prototype.ProtoReflect().Descriptor(), Decode: func(r *eventstore.Recorded) (e E, err error) {
		m, err := decodeProto(r, prototype)
		if err != nil {
			return e, err
		}
		return lift(m)
	}}
}

type protoCodec[E proto.Message] struct{ wireNames[E] }

// Encode implements Codec.
func (c *protoCodec[E]) Encode(e E) (eventstore.Event, error) {
	n, err := c.nameOf(e)
	if err != nil {
		return eventstore.Event{}, err
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("encode %s: %w", n.name, err)
	}
	return c.event(n, payload), nil
}

func protoDecoder[E proto.Message](prototype E) (func(*eventstore.Recorded) (E, error), error) {
	return func(r *eventstore.Recorded) (E, error) { return decodeProto(r, prototype) }, nil
}

// decodeProto decodes into a new message of the prototype's type; a nil pointer will do as prototype.
func decodeProto[M proto.Message](r *eventstore.Recorded, prototype M) (m M, err error) {
	if err := expectEncoding(r, eventstore.Protobuf); err != nil {
		return m, err
	}
	fresh := prototype.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(r.Body(), fresh); err != nil {
		return m, err
	}
	return fresh.(M), nil
}

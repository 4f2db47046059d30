package commands

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Sealer is a store that keeps the personal fields of events erasable, as package eventstore/sealed does. A bus over
// another store refuses events that have some.
type Sealer interface {
	eventstore.Store
	// Declare says which message the events of a type are; its options say what is personal.
	Declare(name string, message protoreflect.MessageDescriptor) error
	// SameRequest reports whether the request of a receipt, recorded with the hash stored, is the one that hashes to asked:
	// the hash of a request with personal data is not recorded as it is.
	SameRequest(ctx context.Context, r eventstore.Receipt, stored, asked eventstore.Hash) (bool, error)
}

// errNotSealed: events with personal fields would have been recorded for good.
var errNotSealed = errors.New("it has personal fields, and the store of this bus seals none")

// declare tells the store of the messages that an aggregate's events are. Where the store does not seal, it is noted which
// fields must not be there.
func (b *Bus) declare(codec any) error {
	c, ok := codec.(Described)
	if !ok {
		return nil
	}
	var faults []error
	for name, message := range c.Messages() {
		if b.sealer != nil {
			faults = append(faults, b.sealer.Declare(name, message))
			continue
		}
		if fields := personalFields(message); len(fields) > 0 {
			b.unsealed[name] = fields
		}
	}
	return errors.Join(faults...)
}

// personalEvent returns the name of an event of a codec that has personal fields, empty when there is none.
func personalEvent(codec any) string {
	c, ok := codec.(Described)
	if !ok {
		return ""
	}
	for name, message := range c.Messages() {
		if len(personalFields(message)) > 0 {
			return name
		}
	}
	return ""
}

// personalFields returns the numbers of a message's personal fields.
func personalFields(message protoreflect.MessageDescriptor) (numbers []protowire.Number) {
	for i := range message.Fields().Len() {
		f := message.Fields().Get(i)
		if personal, _ := proto.GetExtension(f.Options(), apiv1.E_Personal).(bool); personal {
			numbers = append(numbers, f.Number())
		}
	}
	return numbers
}

// checkSealed refuses what would be recorded for good.
func (b *Bus) checkSealed(r *eventstore.Request) error {
	if len(b.unsealed) == 0 {
		return nil
	}
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			e := &r.Appends[i].Events[j]
			for _, number := range b.unsealed[e.Type] {
				if hasField(e.Payload, number) {
					return fmt.Errorf("event %s: %w", e.Type, errNotSealed)
				}
			}
		}
	}
	return nil
}

// hasField reports whether a field stands in an encoded message, or might: what cannot be read counts as there.
func hasField(payload []byte, number protowire.Number) bool {
	for len(payload) > 0 {
		n, _, size := protowire.ConsumeField(payload)
		if size < 0 || n == number {
			return true
		}
		payload = payload[size:]
	}
	return false
}

// sameRequest reports whether the recorded request of a receipt is the message.
func (b *Bus) sameRequest(ctx context.Context, m *Message, r eventstore.Receipt, stored eventstore.Hash) (bool, error) {
	if stored == m.Hash || b.sealer == nil {
		return stored == m.Hash, nil
	}
	return b.sealer.SameRequest(ctx, r, stored, m.Hash)
}

// Forget drops the folded states that are kept between commands, those of commands under way included: they may hold what
// the log does not give any more. It is safe to call at any time.
func (b *Bus) Forget() { b.cache.forget() }

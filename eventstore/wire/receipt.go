package wire

import (
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// EncodeReceipt returns the message of a receipt.
func EncodeReceipt(r *eventstore.Receipt) *storev1.Receipt {
	m := &storev1.Receipt{
		RequestId: r.ID, First: EncodePosition(r.First), Position: EncodePosition(r.Position),
		Duplicate: r.Duplicate, Durability: r.Reached.String(),
		Streams: make([]*storev1.StreamReceipt, len(r.Streams)),
	}
	if r.Dot != (eventstore.Dot{}) {
		m.Dot = r.Dot.String()
	}
	for i, s := range r.Streams {
		m.Streams[i] = &storev1.StreamReceipt{Category: s.Stream.Category, Id: s.Stream.ID, First: s.First, Last: s.Last}
	}
	return m
}

// DecodeReceipt reads the receipt of a tenant's request.
func DecodeReceipt(tenant string, m *storev1.Receipt) (r eventstore.Receipt, err error) {
	r = eventstore.Receipt{ID: m.GetRequestId(), Duplicate: m.GetDuplicate()}
	if r.First, err = DecodePosition(m.GetFirst()); err != nil {
		return r, fmt.Errorf("receipt: first: %w", err)
	}
	if r.Position, err = DecodePosition(m.GetPosition()); err != nil {
		return r, fmt.Errorf("receipt: position: %w", err)
	}
	if r.Reached, err = eventstore.ParseDurability(m.GetDurability()); err != nil {
		return r, fmt.Errorf("receipt: %w", err)
	}
	if m.GetDot() != "" {
		if r.Dot, err = eventstore.ParseDot(m.GetDot()); err != nil {
			return r, fmt.Errorf("receipt: %w", err)
		}
	}
	for _, s := range m.GetStreams() {
		stream := eventstore.StreamID{Tenant: tenant, Category: s.GetCategory(), ID: s.GetId()}
		r.Streams = append(r.Streams, eventstore.StreamReceipt{Stream: stream, First: s.GetFirst(), Last: s.GetLast()})
	}
	return r, nil
}

// EncodeConflict returns the message of a conflict.
func EncodeConflict(c *eventstore.ConflictError) *storev1.Conflict {
	m := &storev1.Conflict{}
	for _, s := range c.Conflicts {
		sc := &storev1.StreamConflict{Tenant: s.Stream.Tenant, Category: s.Stream.Category, Id: s.Stream.ID, Got: s.Got}
		switch s.Want {
		case eventstore.NoStream:
			sc.Expect = &storev1.StreamConflict_NoStream{NoStream: true}
		case eventstore.Exists:
			sc.Expect = &storev1.StreamConflict_Exists{Exists: true}
		default:
			sc.Expect = &storev1.StreamConflict_Version{Version: uint64(s.Want)}
		}
		m.Streams = append(m.Streams, sc)
	}
	if cc := c.Condition; cc != nil {
		m.Condition = &storev1.ConditionConflict{Query: EncodeQuery(cc.Query), After: EncodePosition(cc.After), Found: EncodePosition(cc.Found)}
	}
	return m
}

// DecodeConflict reads a conflict.
func DecodeConflict(m *storev1.Conflict) (c *eventstore.ConflictError, err error) {
	c = &eventstore.ConflictError{}
	for _, s := range m.GetStreams() {
		stream := eventstore.StreamID{Tenant: s.GetTenant(), Category: s.GetCategory(), ID: s.GetId()}
		want := eventstore.Any
		switch e := s.GetExpect().(type) {
		case *storev1.StreamConflict_NoStream:
			want = eventstore.NoStream
		case *storev1.StreamConflict_Exists:
			want = eventstore.Exists
		case *storev1.StreamConflict_Version:
			want = eventstore.Exactly(e.Version)
		}
		c.Conflicts = append(c.Conflicts, eventstore.StreamConflict{Stream: stream, Want: want, Got: s.GetGot()})
	}
	if cc := m.GetCondition(); cc != nil {
		c.Condition = &eventstore.ConditionConflict{Condition: eventstore.Condition{Query: DecodeQuery(cc.GetQuery())}}
		if c.Condition.After, err = DecodePosition(cc.GetAfter()); err != nil {
			return c, fmt.Errorf("conflict: after: %w", err)
		}
		if c.Condition.Found, err = DecodePosition(cc.GetFound()); err != nil {
			return c, fmt.Errorf("conflict: found: %w", err)
		}
	}
	return c, nil
}

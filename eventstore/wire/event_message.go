package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// EncodeEvent returns an event as a message, for what sends one at a time. It is read back from the wire form, so that there
// is one place that says what an event looks like.
func EncodeEvent(e *eventstore.Recorded) (*storev1.RecordedEvent, error) {
	m := &storev1.RecordedEvent{}
	if err := proto.Unmarshal(appendEvent(nil, e), m); err != nil {
		return nil, fmt.Errorf("encode event at %s: %w", e.Position, err)
	}
	return m, nil
}

// DecodeEvent reads an event from a message, as far as one tells of it: its time to the millisecond, and neither what the decider
// had folded, nor the hash of its request, nor where a batch began that it does not end. The payload shares the message's memory.
func DecodeEvent(m *storev1.RecordedEvent) (e eventstore.Recorded, err error) {
	if e.Position, err = eventstore.ParsePosition(m.GetPosition()); err != nil {
		return e, err
	}
	if e.Dot, err = eventstore.ParseDot(m.GetDot()); err != nil {
		return e, err
	}
	err = decodeEvent(&e.Event, &storev1.NewEvent{
		Id: m.GetEventId(), Type: m.GetType(), SchemaVersion: m.GetSchemaVersion(), ContentType: m.GetContentType(), Payload: m.GetPayload(),
		Tags: m.GetTags(), Kind: m.GetKind(), KeyRef: m.GetKeyRef(),
	})
	e.Stream = eventstore.StreamID{Tenant: m.GetTenant(), Category: m.GetCategory(), ID: m.GetStreamId()}
	e.Version, e.HLC = m.GetVersion(), hlc.At(m.GetRecordedAt().AsTime())
	e.CommandID, e.Metadata, e.Revises = m.GetRequestId(), decodeMetadata(m.GetMetadata()), m.GetRevises()
	// Of an event that does not end its batch a message does not tell where that began.
	e.Batch = eventstore.Batch{FirstSeq: e.Dot.Seq, Count: m.GetBatchCount()}
	if m.GetEndsBatch() {
		e.Batch.FirstSeq = e.Dot.Seq + 1 - uint64(e.Batch.Count)
	}
	return e, err
}

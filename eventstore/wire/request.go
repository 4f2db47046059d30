package wire

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// DecodeRequest returns the request that a message asks for. Payloads share the message's memory.
func DecodeRequest(m *storev1.AppendRequest) (r eventstore.Request, err error) {
	r = eventstore.Request{Tenant: m.GetTenant(), ID: m.GetRequestId(), Metadata: decodeMetadata(m.GetMetadata())}
	if r.Tenant == "" {
		r.Tenant = eventstore.DefaultTenant
	}
	if r.Durability, err = eventstore.ParseDurability(m.GetDurability()); err != nil {
		return r, err
	}
	if h := m.GetRequestHash(); len(h) > 0 && copy(r.Hash[:], h) != len(h) || len(h) > 0 && len(h) < len(r.Hash) {
		return r, invalidf("request_hash has %d bytes, a SHA-256 has %d", len(h), len(r.Hash))
	}
	if c := m.GetCondition(); c != nil {
		r.Condition = &eventstore.Condition{Query: DecodeQuery(c.GetQuery())}
		if r.Condition.After, err = DecodePosition(c.GetAfter()); err != nil {
			return r, fmt.Errorf("condition: after: %w", err)
		}
	}
	r.Appends = make([]eventstore.StreamAppend, len(m.GetAppends()))
	for i, a := range m.GetAppends() {
		if err := decodeAppend(&r.Appends[i], r.Tenant, a); err != nil {
			return r, fmt.Errorf("stream %s/%s: %w", a.GetCategory(), a.GetId(), err)
		}
	}
	return r, nil
}

func decodeAppend(a *eventstore.StreamAppend, tenant string, m *storev1.StreamAppend) (err error) {
	a.Stream = eventstore.StreamID{Tenant: tenant, Category: m.GetCategory(), ID: m.GetId()}
	if a.Expect, err = decodeExpect(m); err != nil {
		return err
	}
	a.Events = make([]eventstore.Event, len(m.GetEvents()))
	for i, e := range m.GetEvents() {
		if err := decodeEvent(&a.Events[i], e); err != nil {
			return fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	a.Context, err = decodeContext(m.GetContext())
	return err
}

// decodeContext returns the vector that covers all that is known, which may name a log twice.
func decodeContext(known []*storev1.Known) (eventstore.Vector, error) {
	if n := len(known); n > eventstore.MaxContext {
		return nil, fmt.Errorf("%w: a context of %d entries, the limit is %d", eventstore.ErrTooLarge, n, eventstore.MaxContext)
	}
	dots := make([]eventstore.Dot, len(known))
	for i, k := range known {
		if k.GetShard() > 0xffff {
			return nil, invalidf("context: shard %d is beyond 65535", k.GetShard())
		}
		dots[i].Log = eventstore.LogID{Site: k.GetSite(), Incarnation: k.GetIncarnation(), Shard: uint16(k.GetShard())}
		dots[i].Seq = k.GetSeq()
	}
	slices.SortFunc(dots, func(a, b eventstore.Dot) int {
		return cmp.Or(a.Log.Compare(b.Log), cmp.Compare(b.Seq, a.Seq))
	})
	dots = slices.CompactFunc(dots, func(a, b eventstore.Dot) bool { return a.Log == b.Log })
	if len(dots) == 0 {
		return nil, nil
	}
	return dots, nil
}

var errFalse = errors.New("an expectation is set to false: set it to true, or leave it out")

func decodeExpect(m *storev1.StreamAppend) (eventstore.Expect, error) {
	is := func(e eventstore.Expect, set bool) (eventstore.Expect, error) {
		if !set {
			return 0, invalidf("%w", errFalse)
		}
		return e, nil
	}
	switch e := m.GetExpect().(type) {
	case *storev1.StreamAppend_Any:
		return is(eventstore.Any, e.Any)
	case *storev1.StreamAppend_NoStream:
		return is(eventstore.NoStream, e.NoStream)
	case *storev1.StreamAppend_Exists:
		return is(eventstore.Exists, e.Exists)
	case *storev1.StreamAppend_Version:
		return exactly(e.Version)
	}
	return eventstore.Any, nil
}

// exactly returns the expectation of a version. One that no stream can have would be told as another.
func exactly(version uint64) (eventstore.Expect, error) {
	if version > math.MaxInt64 {
		return 0, invalidf("expected version %d is beyond what a stream can have, which is %d", version, int64(math.MaxInt64))
	}
	return eventstore.Exactly(version), nil
}

func decodeEvent(e *eventstore.Event, m *storev1.NewEvent) (err error) {
	*e = eventstore.Event{Type: m.GetType(), Payload: m.GetPayload(), Tags: m.GetTags(), KeyRef: m.GetKeyRef()}
	if id := m.GetId(); id != "" {
		if e.ID, err = uuid.Parse(id); err != nil {
			return invalidf("id %q is not a UUID", id)
		}
	}
	if m.GetSchemaVersion() > 0xffff {
		return invalidf("schema version %d is beyond 65535", m.GetSchemaVersion())
	}
	e.SchemaVersion = uint16(m.GetSchemaVersion())
	if k := m.GetKind(); k != "" {
		if e.Kind, err = eventstore.ParseKind(k); err != nil {
			return err
		}
	}
	if c := m.GetContentType(); c != "" {
		if e.Encoding, err = eventstore.ParseContentType(c); err != nil {
			return err
		}
	}
	if text := m.GetPayloadJson(); text != "" {
		if len(e.Payload) > 0 {
			return invalidf("payload and payload_json are both set: set one")
		}
		if !json.Valid([]byte(text)) {
			return invalidf("payload_json is no JSON")
		}
		if e.Encoding == eventstore.Protobuf {
			return invalidf("payload_json of content type %s", e.Encoding.ContentType())
		}
		e.Payload, e.Encoding = []byte(text), eventstore.JSON
	}
	return nil
}

func decodeMetadata(m *storev1.Metadata) eventstore.Metadata {
	return eventstore.Metadata{
		Causation: m.GetCausationId(), Correlation: m.GetCorrelationId(),
		TraceParent: m.GetTraceparent(), TraceState: m.GetTracestate(), Actor: m.GetActor(),
	}
}

// EncodeRequest returns the message that asks for r. Payloads share r's memory.
func EncodeRequest(r *eventstore.Request) *storev1.AppendRequest {
	m := &storev1.AppendRequest{Tenant: r.Tenant, RequestId: r.ID, Metadata: encodeMetadata(&r.Metadata)}
	if r.Durability != eventstore.Local {
		m.Durability = r.Durability.String()
	}
	if r.Hash != (eventstore.Hash{}) {
		m.RequestHash = r.Hash[:]
	}
	if c := r.Condition; c != nil {
		m.Condition = &storev1.Condition{Query: EncodeQuery(c.Query), After: EncodePosition(c.After)}
	}
	m.Appends = make([]*storev1.StreamAppend, len(r.Appends))
	for i := range r.Appends {
		m.Appends[i] = encodeAppend(&r.Appends[i])
	}
	return m
}

func encodeAppend(a *eventstore.StreamAppend) *storev1.StreamAppend {
	m := &storev1.StreamAppend{Category: a.Stream.Category, Id: a.Stream.ID, Events: make([]*storev1.NewEvent, len(a.Events))}
	switch a.Expect {
	case eventstore.Any:
	case eventstore.NoStream:
		m.Expect = &storev1.StreamAppend_NoStream{NoStream: true}
	case eventstore.Exists:
		m.Expect = &storev1.StreamAppend_Exists{Exists: true}
	default:
		m.Expect = &storev1.StreamAppend_Version{Version: uint64(a.Expect)}
	}
	for i := range a.Events {
		m.Events[i] = encodeNewEvent(&a.Events[i])
	}
	for _, d := range a.Context {
		m.Context = append(m.Context, &storev1.Known{Site: d.Log.Site, Incarnation: d.Log.Incarnation, Shard: uint32(d.Log.Shard), Seq: d.Seq})
	}
	return m
}

func encodeNewEvent(e *eventstore.Event) *storev1.NewEvent {
	m := &storev1.NewEvent{
		Type: e.Type, SchemaVersion: uint32(e.SchemaVersion), ContentType: contentType(e), Payload: e.Payload, Tags: e.Tags, Kind: kind(e), KeyRef: e.KeyRef,
	}
	if e.ID != (uuid.UUID{}) {
		m.Id = e.ID.String()
	}
	return m
}

func encodeMetadata(m *eventstore.Metadata) *storev1.Metadata {
	if *m == (eventstore.Metadata{}) {
		return nil
	}
	return &storev1.Metadata{
		CausationId: m.Causation, CorrelationId: m.Correlation, Traceparent: m.TraceParent, Tracestate: m.TraceState, Actor: m.Actor,
	}
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", eventstore.ErrInvalid, fmt.Errorf(format, args...))
}

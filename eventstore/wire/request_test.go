package wire

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// travel sends a message over the wire.
func travel[M proto.Message](t *testing.T, in, out M) M {
	t.Helper()
	b, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A request, a receipt and a conflict arrive as they were sent, with every expectation there is. Invariant A2.
func TestRoundTrips(t *testing.T) {
	query := eventstore.Query{{Types: []string{"a.v1", "b.v1"}, Tags: []string{"k:1"}}, {Tags: []string{"k:2", "l:3"}}}
	after := eventstore.Position{Incarnation: 2, LSN: 7}
	request := eventstore.Request{
		Tenant: "acme", ID: "r-1", Hash: eventstore.Hash{1, 2, 3}, Durability: eventstore.Kafka,
		Condition: &eventstore.Condition{Query: query, After: after},
		Metadata:  eventstore.Metadata{Causation: "c", Correlation: "d", TraceParent: "e", TraceState: "f", Actor: "g"},
	}
	for i, expect := range []eventstore.Expect{eventstore.Any, eventstore.NoStream, eventstore.Exists, eventstore.Exactly(1), eventstore.Exactly(1 << 63)} {
		request.Appends = append(request.Appends, eventstore.StreamAppend{
			Stream: eventstore.StreamID{Tenant: "acme", Category: "thing", ID: strings.Repeat("x", i+1)}, Expect: expect,
			Events: []eventstore.Event{
				{Type: "a.v1", Payload: []byte("p"), Tags: []string{"k:1"}},
				{ID: uuid.UUID{9}, Type: "b.v1", SchemaVersion: 3, Kind: eventstore.KindCompensation, Encoding: eventstore.JSON, Payload: []byte("{}"), KeyRef: 5},
			},
			Context: eventstore.Vector{{Log: eventstore.LogID{Site: "de", Incarnation: 1, Shard: 65535}, Seq: 8}, {Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Seq: 9}},
		})
	}
	gotRequest, err := DecodeRequest(travel(t, EncodeRequest(&request), &storev1.AppendRequest{}))
	if diff := cmp.Diff(request, gotRequest); diff != "" || err != nil {
		t.Errorf("request: %v\n%s", err, diff)
	}

	receipt := eventstore.Receipt{
		ID: "r-1", First: eventstore.Position{Incarnation: 2, LSN: 8}, Position: eventstore.Position{Incarnation: 2, LSN: 9}, Duplicate: true, Reached: eventstore.Kafka,
		Dot:     eventstore.Dot{Log: eventstore.LogID{Site: "sh", Incarnation: 2, Shard: 11}, Seq: 7},
		Streams: []eventstore.StreamReceipt{{Stream: eventstore.StreamID{Tenant: "acme", Category: "thing", ID: "x"}, First: 1, Last: 2}},
	}
	gotReceipt, err := DecodeReceipt("acme", travel(t, EncodeReceipt(&receipt), &storev1.Receipt{}))
	if diff := cmp.Diff(receipt, gotReceipt); diff != "" || err != nil {
		t.Errorf("receipt: %v\n%s", err, diff)
	}

	conflict := &eventstore.ConflictError{Condition: &eventstore.ConditionConflict{Condition: *request.Condition, Found: eventstore.Position{Incarnation: 2, LSN: 8}}}
	for i, want := range []eventstore.Expect{eventstore.NoStream, eventstore.Exists, eventstore.Exactly(7)} {
		conflict.Conflicts = append(conflict.Conflicts, eventstore.StreamConflict{Stream: request.Appends[i].Stream, Want: want, Got: uint64(i)})
	}
	gotConflict, err := DecodeConflict(travel(t, EncodeConflict(conflict), &storev1.Conflict{}))
	if diff := cmp.Diff(conflict, gotConflict); diff != "" || err != nil {
		t.Errorf("conflict: %v\n%s", err, diff)
	}
}

// What a message can get wrong by itself is an error that names the place.
func TestWrongRequests(t *testing.T) {
	stream := func(a *storev1.StreamAppend, e *storev1.NewEvent) *storev1.AppendRequest {
		a.Category, a.Id, a.Events = "thing", "1", []*storev1.NewEvent{e}
		return &storev1.AppendRequest{Appends: []*storev1.StreamAppend{a}}
	}
	good := &storev1.NewEvent{Type: "a.v1"}
	for want, m := range map[string]*storev1.AppendRequest{
		"durability":                     {Durability: "much"},
		"request_hash":                   {RequestHash: make([]byte, 31)},
		"SHA-256":                        {RequestHash: make([]byte, 33)},
		"condition: after":               {Condition: &storev1.Condition{After: "1"}},
		"set to false":                   stream(&storev1.StreamAppend{Expect: &storev1.StreamAppend_NoStream{}}, good),
		"18446744073709551615 is beyond": stream(&storev1.StreamAppend{Expect: &storev1.StreamAppend_Version{Version: math.MaxUint64}}, good),
		"thing/1":                        stream(&storev1.StreamAppend{Expect: &storev1.StreamAppend_Any{}}, good),
		"shard":                          stream(&storev1.StreamAppend{Context: []*storev1.Known{{Shard: 1 << 16}}}, good),
		"is not a UUID":                  stream(&storev1.StreamAppend{}, &storev1.NewEvent{Id: "1"}),
		"schema version":                 stream(&storev1.StreamAppend{}, &storev1.NewEvent{SchemaVersion: 1 << 16}),
		"kind":                           stream(&storev1.StreamAppend{}, &storev1.NewEvent{Kind: "odd"}),
		"content type":                   stream(&storev1.StreamAppend{}, &storev1.NewEvent{ContentType: "text/plain"}),
		"is no JSON":                     stream(&storev1.StreamAppend{}, &storev1.NewEvent{PayloadJson: "{"}),
		"both set":                       stream(&storev1.StreamAppend{}, &storev1.NewEvent{Payload: []byte("a"), PayloadJson: "{}"}),
		"of content type a":              stream(&storev1.StreamAppend{}, &storev1.NewEvent{ContentType: "application/protobuf", PayloadJson: "{}"}),
	} {
		_, err := DecodeRequest(m)
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error %v", want, err)
		}
	}
}

// What is known may name a log twice, in any order; the later counts. Far too much of it is refused before it is looked at:
// that takes no longer than a glance.
func TestContext(t *testing.T) {
	known := func(site string, seq uint64) *storev1.Known {
		return &storev1.Known{Site: site, Incarnation: 1, Seq: seq}
	}
	decode := func(k []*storev1.Known) (eventstore.Vector, error) {
		r, err := DecodeRequest(&storev1.AppendRequest{Appends: []*storev1.StreamAppend{{Category: "thing", Id: "1", Context: k}}})
		if err != nil {
			return nil, err
		}
		return r.Appends[0].Context, nil
	}
	got, err := decode([]*storev1.Known{known("b", 2), known("a", 5), known("b", 9), known("a", 1), known("b", 3)})
	want := eventstore.Vector{
		{Log: eventstore.LogID{Site: "a", Incarnation: 1}, Seq: 5}, {Log: eventstore.LogID{Site: "b", Incarnation: 1}, Seq: 9},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	many := make([]*storev1.Known, eventstore.MaxContext+1)
	for i := range many {
		many[i] = known("a", uint64(i))
	}
	if _, err := decode(many[1:]); err != nil {
		t.Errorf("%d entries: %v", eventstore.MaxContext, err)
	}
	if _, err := decode(many); !errors.Is(err, eventstore.ErrTooLarge) {
		t.Errorf("%d entries: %v, want %v", len(many), err, eventstore.ErrTooLarge)
	}
}

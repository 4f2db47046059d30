package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// message is the message of an event as the generated code would have it made.
func message(e *eventstore.Recorded) *storev1.RecordedEvent {
	return &storev1.RecordedEvent{
		Position: e.Position.String(), Tenant: e.Stream.Tenant, Category: e.Stream.Category, StreamId: e.Stream.ID,
		Version: e.Version, Type: e.Type, SchemaVersion: uint32(e.SchemaVersion), EventId: e.Event.ID.String(),
		RecordedAt: timestamppb.New(e.Time()), ContentType: e.Encoding.ContentType(), Payload: e.Payload, Tags: e.Tags,
		Kind: e.Kind.String(), RequestId: e.CommandID, Metadata: encodeMetadata(&e.Metadata), Dot: e.Dot.String(),
		BatchCount: e.Batch.Count, EndsBatch: e.EndsBatch(), KeyRef: e.KeyRef, Revises: e.Revises,
	}
}

// recorded returns some event; every field is empty now and then.
func recorded(random *rand.Rand) *eventstore.Recorded {
	text := func() string { return strings.Repeat("ü", random.IntN(2)*random.IntN(150)) }
	var id uuid.UUID
	for i := range id {
		id[i] = byte(random.Uint32())
	}
	e := &eventstore.Recorded{
		Position: eventstore.Position{Incarnation: random.Uint32N(3), LSN: random.Uint64N(1 << 40)},
		Dot:      eventstore.Dot{Log: eventstore.LogID{Site: "sh", Incarnation: random.Uint32N(300), Shard: uint16(random.Uint32N(200))}, Seq: random.Uint64N(1 << 40)},
		HLC:      hlc.Timestamp(random.Uint64N(1 << 62)), Version: random.Uint64N(1 << 33),
		Stream: eventstore.StreamID{Tenant: "default", Category: "order", ID: "1" + text()},
		Event: eventstore.Event{
			ID: id, Type: "order.created.v1", SchemaVersion: uint16(random.Uint32()), Kind: eventstore.KindDomain, Encoding: eventstore.JSON,
			Payload: []byte(text()), KeyRef: random.Uint32N(2),
		},
		CommandID: text(),
		Metadata:  eventstore.Metadata{Causation: text(), Correlation: text(), TraceParent: text(), TraceState: text(), Actor: text()},
	}
	e.Batch = eventstore.Batch{FirstSeq: e.Dot.Seq - random.Uint64N(2), Count: 1 + random.Uint32N(2)}
	e.Revises = random.IntN(3) == 0
	for range random.IntN(3) {
		e.Tags = append(e.Tags, "t:"+text())
	}
	if len(e.Payload) == 0 {
		e.Payload = nil
	}
	return e
}

// What is written by hand is what the generated code writes. Invariant A2.
func TestEventIsWrittenAsTheGeneratedCodeDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		e := recorded(random)
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(message(e))
		if err != nil {
			t.Fatal(err)
		}
		if got := appendEvent(nil, e); !bytes.Equal(got, want) {
			m := &storev1.RecordedEvent{}
			t.Fatalf("the event by hand differs (%v):\n%s", proto.Unmarshal(got, m), cmp.Diff(message(e), m, protocmp.Transform()))
		}
	}
}

// An event that was read from its message makes the same message again.
func TestEventIsReadBack(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		e := recorded(random)
		if e.Batch.Count == 1 { // such a batch begins and ends with its event
			e.Batch.FirstSeq = e.Dot.Seq
		}
		want := message(e)
		got, err := DecodeEvent(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, message(&got), protocmp.Transform()); diff != "" {
			t.Fatal(diff)
		}
	}
	for _, dot := range []string{"", "shard-00@sh/1", "shard-x@sh/1/2", "00@sh/1/x"} {
		if _, err := DecodeEvent(&storev1.RecordedEvent{Position: "1-2", Dot: dot}); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("dot %q: %v, want ErrInvalid", dot, err)
		}
	}
}

// A page is the message that it is the wire form of, in both forms, and frames give the events back whole. Invariant A2.
func TestPageIsItsMessage(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, frames := range []bool{false, true} {
		page := NewPage(frames)
		for _, n := range []int{1, 0, 300, 2} {
			var want []eventstore.Recorded
			for range n {
				e := recorded(random)
				e.Position.Incarnation = 2 // a log has one
				e.Chain[0] = byte(random.Uint32())
				want = append(want, *e)
				page.Add(e, frames)
			}
			if page.Len() != n {
				t.Fatalf("a page of %d events says %d", n, page.Len())
			}
			encoded, err := page.SubscribeResponse(&storev1.SubscribeResponse{Position: "2-1", CaughtUp: true})
			if err != nil {
				t.Fatal(err)
			}
			reflected := encoded.ProtoReflect().Interface()
			m := &storev1.SubscribeResponse{}
			if err := proto.Unmarshal(encoded.Buffers().Materialize(), m); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(m, reflected) || m.GetPosition() != "2-1" || !m.GetCaughtUp() {
				t.Fatalf("the page's message differs from its bytes, or has lost the rest: %v", m)
			}
			if !frames {
				for i := range want {
					if diff := cmp.Diff(message(&want[i]), m.GetEvents()[i], protocmp.Transform()); diff != "" {
						t.Fatal(diff)
					}
				}
				continue
			}
			got, err := DecodeFrames(nil, m.GetFrames())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

// Frames that were cut, or whose lists do not fit, are an error.
func TestDamagedFrames(t *testing.T) {
	page := NewPage(true)
	random := rand.New(rand.NewPCG(5, 6))
	for range 3 {
		page.Add(recorded(random), true)
	}
	whole := page.ReadResponse().ProtoReflect().Interface().(*storev1.ReadResponse).GetFrames()
	for name, damage := range map[string]func(*storev1.Frames){
		"cut":            func(f *storev1.Frames) { f.Frames = f.GetFrames()[:len(f.GetFrames())-1] },
		"more":           func(f *storev1.Frames) { f.Frames = append(f.Frames, 1) },
		"a place less":   func(f *storev1.Frames) { f.Lsns = f.GetLsns()[:2] },
		"a place more":   func(f *storev1.Frames) { f.Lsns = append(f.Lsns, 9) },
		"chain cut":      func(f *storev1.Frames) { f.Chains = f.GetChains()[1:] },
		"a bit":          func(f *storev1.Frames) { f.Frames[100] ^= 4 },
		"chain too long": func(f *storev1.Frames) { f.Chains = append(f.GetChains(), f.GetChains()[:32]...) },
	} {
		f := proto.CloneOf(whole)
		damage(f)
		if _, err := DecodeFrames(nil, f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

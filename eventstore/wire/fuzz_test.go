package wire

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// FuzzAnswers feeds what a client takes from a server: it is read as the generated code reads it, and its frames are events
// or are said to be damaged.
func FuzzAnswers(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, asFrames := range []bool{true, false} {
		p := NewPage(asFrames)
		for range 3 {
			p.Add(recorded(random), asFrames)
		}
		f.Add(p.ReadResponse().Buffers().Materialize())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, of := range []proto.Message{&storev1.ReadResponse{}, &storev1.SubscribeResponse{}} {
			compareAnswers(t, b, of)
		}
		var m storev1.ReadResponse
		if UnmarshalAnswer(slices.Clone(b), &m) != nil || m.GetFrames() == nil {
			return
		}
		if _, err := DecodeFrames(nil, m.GetFrames()); err != nil && !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("decode frames: %v, want %v", err, eventstore.ErrCorrupt)
		}
	})
}

// FuzzAppendRequest feeds what a server takes from a client: a request that is taken is the same after another journey, and
// one that is not is said to be wrong. What clients read of receipts and conflicts is fed too.
func FuzzAppendRequest(f *testing.F) {
	seed := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	stream := eventstore.Stream("thing", "1")
	seed(EncodeRequest(&eventstore.Request{
		Tenant: stream.Tenant, ID: "r-1", Appends: []eventstore.StreamAppend{{Stream: stream, Expect: eventstore.Exactly(3), Events: []eventstore.Event{{Type: "a.v1", Payload: []byte("x"), Tags: []string{"k:1"}}}}},
		Condition: &eventstore.Condition{Query: eventstore.Tagged("k:1"), After: eventstore.Position{Incarnation: 1, LSN: 7}},
	}))
	seed(EncodeReceipt(&eventstore.Receipt{ID: "r-1", First: eventstore.Position{Incarnation: 1, LSN: 1}, Position: eventstore.Position{Incarnation: 1, LSN: 2}}))
	seed(EncodeConflict(&eventstore.ConflictError{Conflicts: []eventstore.StreamConflict{{Stream: stream, Want: eventstore.NoStream, Got: 2}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var receipt storev1.Receipt
		if proto.Unmarshal(b, &receipt) == nil {
			_, _ = DecodeReceipt("acme", &receipt) // an error or a receipt, no panic
		}
		var conflict storev1.Conflict
		if proto.Unmarshal(b, &conflict) == nil {
			_, _ = DecodeConflict(&conflict) // the same
		}
		var m storev1.AppendRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r, err := DecodeRequest(&m)
		if err == nil {
			err = r.Normalize()
		}
		if err != nil {
			if !errors.Is(err, eventstore.ErrInvalid) && !errors.Is(err, eventstore.ErrTooLarge) {
				t.Fatalf("decode request: %v, want %v", err, eventstore.ErrInvalid)
			}
			return
		}
		again, err := DecodeRequest(travel(t, EncodeRequest(&r), &storev1.AppendRequest{}))
		if err != nil {
			t.Fatalf("a request that was taken is not taken again: %v", err)
		}
		if err := again.Normalize(); err != nil {
			t.Fatalf("a request that was taken is not taken again: %v", err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatalf("a request changes on its way (-before +after)\n%s", diff)
		}
	})
}

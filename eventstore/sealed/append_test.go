package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// TestNobodyBringsKeys: an event that names a key, or holds something sealed, is refused whatever its type is; reads go on.
func TestNobodyBringsKeys(t *testing.T) {
	r := newRig(t)
	box := protowire.AppendBytes(protowire.AppendTag(nil, sealed.Field, protowire.BytesType), []byte("x"))
	for name, e := range map[string]eventstore.Event{
		"key and box":        {Type: "mine.x.v1", KeyRef: 99, Payload: box},
		"key":                {Type: "mine.x.v1", KeyRef: 99},
		"key, JSON":          {Type: "mine.x.v1", KeyRef: 99, Encoding: eventstore.JSON, Payload: []byte("{}")},
		"key, personal type": {Type: createdV1, KeyRef: 99},
		"box":                {Type: "mine.x.v1", Payload: box},
		"box behind a field": {Type: "mine.x.v1", Payload: append([]byte{8, 1}, box...)},
		"box, personal type": {Type: createdV1, Payload: box},
		"an empty box":       {Type: "mine.x.v1", Payload: protowire.AppendBytes(protowire.AppendTag(nil, sealed.Field, protowire.BytesType), nil)},
	} {
		_, err := r.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("mine", "1"), Events: []eventstore.Event{{Type: "mine.x.v1"}, e},
		}}})
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, payload := range [][]byte{nil, {0xff, 0xff}, []byte("plain text")} {
		_, err := r.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("mine", "1"), Events: []eventstore.Event{{Type: "mine.x.v1", Payload: payload}},
		}}})
		if err != nil {
			t.Errorf("payload %q: %v", payload, err)
		}
	}
	n := 0
	for _, err := range r.store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// waiting is a store that answers appends of durability Kafka when it is let.
type waiting struct {
	eventstore.Store
	begun, let chan struct{}
}

func (w *waiting) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, wait, err := w.Begin(ctx, r)
	if err != nil || wait == nil {
		return receipt, err
	}
	return wait(ctx)
}

func (w *waiting) Begin(ctx context.Context, r eventstore.Request) (eventstore.Receipt, func(context.Context) (eventstore.Receipt, error), error) {
	waits := r.Durability == eventstore.Kafka
	r.Durability = eventstore.Local
	receipt, err := w.Store.Append(ctx, r)
	if err != nil || !waits {
		return receipt, nil, err
	}
	close(w.begun)
	return receipt, func(ctx context.Context) (eventstore.Receipt, error) {
		select {
		case <-w.let:
			receipt.Reached = eventstore.Kafka
			return receipt, nil
		case <-ctx.Done():
			return receipt, ctx.Err()
		}
	}, nil
}

// TestErasureDoesNotWaitForTheMirror: an append that is in the log, and waits to be elsewhere too, holds up no erasure and no
// other append.
func TestErasureDoesNotWaitForTheMirror(t *testing.T) {
	r := newRig(t)
	below := &waiting{r.raw, make(chan struct{}), make(chan struct{})}
	s := sealed.New(below, r.keys, "these")
	if err := s.Declare(createdV1, (&commercev1.OrderCreated{}).ProtoReflect().Descriptor()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	type answer struct {
		receipt eventstore.Receipt
		err     error
	}
	answered := make(chan answer, 1)
	asked := request(t, "key-1", created("A", grace.ID))
	asked.Durability = eventstore.Kafka
	go func() {
		receipt, err := s.Append(ctx, asked)
		answered <- answer{receipt, err}
	}()
	<-below.begun
	if e, err := s.Erase(t.Context(), grace, "x", eventstore.Metadata{}); err != nil || !e.Destroyed {
		t.Fatalf("erase: %+v, %v", e, err)
	}
	if _, err := s.Append(t.Context(), request(t, "", created("B", "other"))); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("the erasure waited for the mirror")
	}
	close(below.let)
	if a := <-answered; a.err != nil || a.receipt.Reached != eventstore.Kafka {
		t.Errorf("the append that waited: %+v, %v", a.receipt, a.err)
	}
}

// slowly is a store that answers what is enqueued when it is let.
type slowly struct {
	eventstore.Store
	begun chan int // how many requests a call has
	let   chan struct{}
}

func (h *slowly) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	h.begun <- len(requests)
	go func() {
		<-h.let
		eventstore.Enqueue(ctx, h.Store, requests, done)
	}()
}

// TestEnqueueSeals: of requests that are enqueued together, those with personal data are sealed, what is wrong is answered in
// its place, and a subject is erased only when those that its key seals are in the log. Shows E1.
func TestEnqueueSeals(t *testing.T) {
	r := newRig(t)
	below := &slowly{r.raw, make(chan int, 1), make(chan struct{})}
	s := r.overLog(below, r.keys)
	plain := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("mine", "1"), Events: []eventstore.Event{{Type: "mine.x.v1"}}}}}
	keyed := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("mine", "1"), Events: []eventstore.Event{{Type: "mine.x.v1", KeyRef: 9}}}}}
	answers := make([]chan eventstore.Answer, 5)
	for i := range answers {
		answers[i] = make(chan eventstore.Answer, 1)
	}
	s.Enqueue(t.Context(), []eventstore.Request{request(t, "", created("A", grace.ID)), keyed, plain, request(t, "", created("B", grace.ID)), request(t, "", created("C", ""))},
		func(i int, a eventstore.Answer) { answers[i] <- a })
	if n := <-below.begun; n != 3 {
		t.Fatalf("%d requests come to the store below, want 3", n)
	}
	for _, i := range []int{1, 4} {
		if a := <-answers[i]; !errors.Is(a.Err, eventstore.ErrInvalid) {
			t.Errorf("request %d: %+v", i, a)
		}
	}
	erased := make(chan error, 1)
	go func() {
		_, err := s.Erase(context.Background(), grace, "x", eventstore.Metadata{})
		erased <- err
	}()
	select {
	case err := <-erased:
		t.Errorf("erased before what its key seals is in the log: %v", err)
	case <-time.After(20 * time.Millisecond): // it has had the time to go wrong
	}
	close(below.let)
	for _, i := range []int{0, 2, 3} {
		if a := <-answers[i]; a.Err != nil {
			t.Errorf("request %d: %v", i, a.Err)
		}
	}
	if err := <-erased; err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"A", "B"} {
		if _, e := r.read(r.raw, id); e.KeyRef == 0 || bytes.Contains(e.Payload, []byte(marker)) {
			t.Errorf("order %s is recorded in plain", id)
		}
	}
}

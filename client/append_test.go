package client

import (
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Close waits no longer for appends whose callers have all gone.
func TestDrainWithoutCallers(t *testing.T) {
	a := newAppender(&Client{}, true)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.put(&call{ctx: ctx, done: make(chan struct{}, 1)}); err != nil {
		t.Fatal(err)
	}
	a.drain() // without any patience
	if m := a.next(); m != nil {
		t.Errorf("sent %v, whose caller has gone", m)
	}
	select {
	case <-a.empty:
	default:
		t.Error("nothing is under way, and Close still waits")
	}
}

// What was sent before the connection broke is sent again before what was called since, so that appends of one stream
// stay in order; what has no request id ends instead. Invariant A4.
func TestOrderAfterABreak(t *testing.T) {
	a := newAppender(&Client{}, false)
	calls := make([]*call, 5)
	put := func(i int, id string) {
		calls[i] = &call{ctx: context.Background(), request: eventstore.Request{ID: id}, done: make(chan struct{}, 1)}
		if err := a.put(calls[i]); err != nil {
			t.Fatal(err)
		}
	}
	numbers := func() (out []uint64) {
		err := wire.SessionAppends(a.next().Buffers().Materialize(), func(number uint64, _ []byte) error {
			out = append(out, number)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	put(0, "a")
	put(1, "")
	put(2, "b")
	if got := numbers(); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Fatalf("sent %v", got)
	}
	put(3, "c")
	put(4, "")
	a.again(eventstore.ErrUnavailable)
	if got := numbers(); !slices.Equal(got, []uint64{1, 3, 4, 5}) {
		t.Errorf("sent after the break: %v, want what was sent before, then what came since", got)
	}
	<-calls[1].done
	if !errors.Is(calls[1].err, eventstore.ErrOutcomeUnknown) || errors.Is(calls[1].err, eventstore.ErrUnavailable) {
		t.Errorf("what has no request id: %v", calls[1].err)
	}
}

// An answer without an outcome, as a later server may give one, says nothing of what became of the append.
func TestAnswerWithoutOutcome(t *testing.T) {
	a := newAppender(&Client{}, false)
	c := &call{ctx: context.Background(), request: eventstore.Request{ID: "a"}, done: make(chan struct{}, 1)}
	if err := a.put(c); err != nil {
		t.Fatal(err)
	}
	a.next()
	m, err := proto.Marshal(&storev1.AppendSessionResponse{Answers: []*storev1.SessionAnswer{{Number: c.number}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.answer(m, nil); err != nil {
		t.Fatal(err)
	}
	<-c.done
	receipt, err := c.answer()
	var unknown *eventstore.OutcomeUnknownError
	if !errors.As(err, &unknown) || unknown.ID != "a" {
		t.Errorf("%+v, %v, want %v", receipt, err, eventstore.ErrOutcomeUnknown)
	}
}

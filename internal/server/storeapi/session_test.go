package storeapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

type client = storev1.EventStore_AppendSessionClient

func open(t *testing.T, r *rig) client {
	t.Helper()
	s, err := r.AppendSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answers receives until n answers are there, and fails when one comes twice.
func answers(t *testing.T, s client, n int) map[uint64]*storev1.SessionAnswer {
	t.Helper()
	got := map[uint64]*storev1.SessionAnswer{}
	for len(got) < n {
		m, err := s.Recv()
		if err != nil {
			t.Fatalf("after %d of %d answers: %v", len(got), n, err)
		}
		for _, a := range m.GetAnswers() {
			if got[a.GetNumber()] != nil {
				t.Fatalf("append %d is answered twice", a.GetNumber())
			}
			got[a.GetNumber()] = a
		}
	}
	return got
}

// Pipelined appends to one stream are done in the order in which they were sent, however they are cut into messages;
// those that fail are answered with their failure, and the session goes on. Invariant A3.
func TestSessionKeepsTheOrderOfAStream(t *testing.T) {
	r := start(t)
	s := open(t, r)
	const n = 1000
	m := &storev1.AppendSessionRequest{}
	for i := range uint64(n) {
		a := request(at(fmt.Sprint(i%3), i/3, 1))
		if i == 500 {
			a.Appends[0].Category = "order"
		}
		m.Appends = append(m.Appends, &storev1.SessionAppend{Number: i, Request: a})
		if i%7 == 0 || i == n-1 {
			if err := s.Send(m); err != nil {
				t.Fatal(err)
			}
			m = &storev1.AppendSessionRequest{}
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got := answers(t, s, n)
	for i := range uint64(n) {
		f, hole := got[i].GetFailure(), i%3 == 500%3 && i >= 500
		switch {
		case i == 500 && f.GetReason() != "kept":
			t.Errorf("append %d to a kept category: %v", i, got[i])
		case hole && i > 500:
			if c := f.GetConflict().GetStreams(); codes.Code(f.GetCode()) != codes.Aborted || len(c) != 1 || c[0].GetGot() != 500/3 {
				t.Errorf("append %d after the failed one: %v", i, got[i])
			}
		case !hole:
			if s := got[i].GetReceipt().GetStreams(); len(s) != 1 || s[0].GetLast() != i/3+1 {
				t.Errorf("append %d: %v", i, got[i])
			}
		}
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v, want the end", err)
	}
}

// What a message can get wrong is answered under its number.
func TestSessionAnswersWhatIsWrong(t *testing.T) {
	r := start(t)
	s := open(t, r)
	if err := s.Send(&storev1.AppendSessionRequest{Appends: []*storev1.SessionAppend{{Number: 1}, {Number: 2, Request: request()}, {Number: 3, Request: request(to("1", 1))}}}); err != nil {
		t.Fatal(err)
	}
	got := answers(t, s, 3)
	for _, number := range []uint64{1, 2} {
		if got[number].GetFailure().GetReason() != "invalid" {
			t.Errorf("append %d: %v", number, got[number])
		}
	}
	if got[3].GetReceipt() == nil {
		t.Errorf("append 3: %v", got[3])
	}
}

// slowStore holds what is enqueued until the test lets it go.
type slowStore struct {
	eventstore.Store
	begun chan string
	open  chan struct{}
}

func (s *slowStore) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	for i := range requests {
		s.begun <- requests[i].Appends[0].Stream.ID
	}
	go func() {
		<-s.open
		eventstore.Enqueue(ctx, s.Store, requests, done)
	}()
}

// A server that stops answers the appends that it has taken, and ends the session with UNAVAILABLE. Invariant A3.
func TestSessionIsDrained(t *testing.T) {
	store := &slowStore{memstore.New(memstore.Options{}), make(chan string), make(chan struct{})}
	r := startWith(t, store)
	s := open(t, r)
	const n = 20
	m := &storev1.AppendSessionRequest{}
	for i := range uint64(n) {
		m.Appends = append(m.Appends, &storev1.SessionAppend{Number: i, Request: request(to(fmt.Sprint(i), 1))})
	}
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
	for range n {
		<-store.begun
	}
	var stopped sync.WaitGroup
	stopped.Go(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	close(store.open)
	for i, a := range answers(t, s, n) {
		if a.GetReceipt() == nil {
			t.Errorf("append %d: %v", i, a)
		}
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("after the last answer: %v, want UNAVAILABLE", err)
	}
	stopped.Wait()
}

// A session that has as much under way as it may is not read from, until an append is answered.
func TestSessionHoldsTheClientBack(t *testing.T) {
	store := &slowStore{memstore.New(memstore.Options{}), make(chan string, 2000), make(chan struct{})}
	r := startWith(t, store)
	s := open(t, r)
	const n = 1500
	m := &storev1.AppendSessionRequest{}
	for i := range uint64(n) {
		m.Appends = append(m.Appends, &storev1.SessionAppend{Number: i, Request: request(to(fmt.Sprint(i), 1))})
	}
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
	const room = 512
	for range room {
		<-store.begun
	}
	select {
	case id := <-store.begun:
		t.Errorf("append %s is begun beside %d others", id, room)
	default:
	}
	close(store.open)
	answers(t, s, n)
}

// A client that does not read its answers is held back, be they receipts or failures, and goes on when it reads them: all
// answers come, each once. Invariant A3.
func TestUnreadAnswersHoldTheClientBack(t *testing.T) {
	for name, a := range map[string]*storev1.AppendRequest{"failures": nil, "receipts": {RequestId: "same"}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, start(t))
			const n, together = 200_000, 2000
			var sent atomic.Int64
			done := make(chan error, 1)
			go func() {
				for begin := range n / together {
					m := &storev1.AppendSessionRequest{}
					for i := range together {
						m.Appends = append(m.Appends, &storev1.SessionAppend{Number: uint64(begin*together + i), Request: a})
					}
					if err := s.Send(m); err != nil {
						done <- err
						return
					}
					sent.Add(together)
				}
				done <- nil
			}()
			for last, same := int64(0), 0; same < 25; same++ { // until it stays as it is
				select {
				case err := <-done:
					t.Fatalf("%d appends are taken, though no answer is read (%v)", sent.Load(), err)
				case <-time.After(20 * time.Millisecond):
				}
				if now := sent.Load(); now != last {
					last, same = now, 0
				}
			}
			answers(t, s, n)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// oddStore fails with a text that is no UTF-8.
type oddStore struct{ eventstore.Store }

var errOdd = fmt.Errorf("%w: type a\xff is odd", eventstore.ErrInvalid)

func (oddStore) Append(context.Context, eventstore.Request) (eventstore.Receipt, error) {
	return eventstore.Receipt{}, errOdd
}

// A failure whose text is no UTF-8 is told like any other, and keeps no other answer back.
func TestFailuresThatAreNoUTF8(t *testing.T) {
	r := startWith(t, oddStore{memstore.New(memstore.Options{})})
	s := open(t, r)
	const want = "type a\uFFFD is odd"
	for i := range uint64(2) {
		if err := s.Send(&storev1.AppendSessionRequest{Appends: []*storev1.SessionAppend{{Number: i, Request: request(to("1", 1))}}}); err != nil {
			t.Fatal(err)
		}
		if f := answers(t, s, 1)[i].GetFailure(); f.GetReason() != "invalid" || f.GetDetail() != want {
			t.Errorf("append %d of a session: %v", i, f)
		}
	}
	_, err := r.Append(t.Context(), request(to("1", 1)))
	if status.Convert(err).Message() != want || detail[*errdetails.ErrorInfo](t, err).GetReason() != "invalid" {
		t.Errorf("append: %v", err)
	}
}

// An answer that cannot be sent ends its session: nobody waits for it in vain.
func TestSessionEndsWhenAnAnswerCannotBeSent(t *testing.T) {
	r := startWith(t, memstore.New(memstore.Options{}), func(s *storeapi.Service) {
		s.Failure = func(context.Context, string, error) *storev1.Failure { return &storev1.Failure{Detail: "\xff"} }
	})
	s := open(t, r)
	if err := s.Send(&storev1.AppendSessionRequest{Appends: []*storev1.SessionAppend{{Number: 1}}}); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("%v, %v, want the end", m, err)
	}
}

package storeapi

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// reader is a client that reads a message when the test lets it.
type reader struct {
	grpc.ServerStream
	let     chan error // what the connection says of each message
	numbers chan uint64
}

func (r *reader) SendMsg(m any) error {
	if err := <-r.let; err != nil {
		return err
	}
	return wire.ReadAnswers(m.(*wire.Encoded).Buffers().Materialize(), func(number uint64, _ []byte, f *storev1.Failure) {
		r.numbers <- number
	})
}

func failure(err error) *storev1.Failure { return &storev1.Failure{Detail: err.Error()} }

// A session whose client does not read its answers takes no more appends, however they are answered; when the client reads
// again, all answers come, each once. Invariant A3.
func TestUnreadAnswersHoldTheSession(t *testing.T) {
	a := newSessionAnswers()
	client := &reader{let: make(chan error), numbers: make(chan uint64, 2*maxUnsent)}
	ended := make(chan error, 1)
	go func() { ended <- a.send(client, failure) }()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range uint64(maxUnsent) {
		if err := a.expect(t.Context()); err != nil {
			t.Fatal(err)
		}
		answer := sessionAnswer{number: i, receipt: eventstore.Receipt{ID: fmt.Sprint(i)}}
		if i%3 == 0 {
			answer.err = errors.New("refused")
		}
		a.put(answer)
	}
	if err := a.expect(over); !errors.Is(err, context.Canceled) {
		t.Fatalf("with %d answers that are not read another append is taken (%v)", maxUnsent, err)
	}
	taken := make(chan error, 1)
	go func() { taken <- a.expect(t.Context()) }()
	client.let <- nil // one message
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	a.put(sessionAnswer{number: maxUnsent})
	a.end()
	close(client.let)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	close(client.numbers)
	seen := map[uint64]bool{}
	for number := range client.numbers {
		if seen[number] {
			t.Errorf("append %d is answered twice", number)
		}
		seen[number] = true
	}
	if len(seen) != maxUnsent+1 {
		t.Errorf("%d answers, want %d", len(seen), maxUnsent+1)
	}
}

// When the client is gone, the session ends once every append is answered, and not before.
func TestAnswersAfterTheClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSessionAnswers()
		gone := errors.New("gone")
		client := &reader{let: make(chan error, 1)}
		client.let <- gone
		ended := make(chan error, 1)
		go func() { ended <- a.send(client, failure) }()
		for range 3 * maxUnsent {
			if err := a.expect(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.put(sessionAnswer{})
		}
		if err := a.expect(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.end()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended before the last append is answered: %v", err)
		default:
		}
		a.put(sessionAnswer{})
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("%v, want %v", err, gone)
		}
	})
}

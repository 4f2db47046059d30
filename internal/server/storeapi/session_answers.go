package storeapi

import (
	"context"
	"runtime"
	"sync"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// sessionAnswer is what became of an append of a session.
type sessionAnswer struct {
	number  uint64
	receipt eventstore.Receipt
	err     error
}

// sessionAnswers are the answers on their way to the sender. Those who answer never wait for it, for they answer others too:
// it is the session that waits before it takes more, when the client does not read what it is sent.
type sessionAnswers struct {
	wake chan struct{} // holds a token when there is something to send, or it is the end
	sent chan struct{} // holds a token when some have been sent

	mu       sync.Mutex // guards what follows
	waiting  []sessionAnswer
	unsent   int // waiting, or in the sender's hands
	expected int // appends that are not answered
	ended    bool
}

// maxUnsent is how many answers may be there, and not sent, when another append is taken.
const maxUnsent = 1024

func newSessionAnswers() *sessionAnswers {
	return &sessionAnswers{wake: make(chan struct{}, 1), sent: make(chan struct{}, 1)}
}

// expect says that one more append is to be answered. It waits while too many answers are not sent.
func (a *sessionAnswers) expect(ctx context.Context) error {
	for {
		a.mu.Lock()
		room := a.unsent < maxUnsent
		if room {
			a.expected++
		}
		a.mu.Unlock()
		if room {
			return nil
		}
		select {
		case <-a.sent:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// giveUp says that an append that was expected is not to be answered.
func (a *sessionAnswers) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected--
}

// put has an answer sent.
func (a *sessionAnswers) put(answer sessionAnswer) {
	a.mu.Lock()
	a.waiting = append(a.waiting, answer)
	a.unsent++
	a.expected--
	first := len(a.waiting) == 1
	a.mu.Unlock()
	if first {
		signal(a.wake)
	}
}

// end says that no more appends are to be expected: the sender ends once all are answered.
func (a *sessionAnswers) end() {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	signal(a.wake)
}

// signal puts a token into a channel that holds one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// gone says that n answers are sent, or that nobody is there to send them to.
func (a *sessionAnswers) gone(n int) {
	a.mu.Lock()
	a.unsent -= n
	a.mu.Unlock()
	signal(a.sent)
}

// take returns what is to be sent, reusing spare for what comes next; over says that nothing comes any more.
func (a *sessionAnswers) take(spare []sessionAnswer) (all []sessionAnswer, over bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all, a.waiting = a.waiting, spare[:0]
	return all, a.ended && a.expected == 0
}

// send sends answers until there are no more. When the client cannot be reached any more, it goes on taking them, so that
// the session ends when all are there.
func (a *sessionAnswers) send(stream grpc.ServerStream, failure func(error) *storev1.Failure) (err error) {
	var message wire.SessionAnswers
	var all []sessionAnswer
	for over := false; !over; {
		<-a.wake
		runtime.Gosched() // answers come in crowds, and a message costs more than an answer
		clear(all)
		all, over = a.take(all)
		for begin := 0; begin < len(all); begin += maxAnswers {
			part := all[begin:min(begin+maxAnswers, len(all))]
			for i := range part {
				if err == nil {
					err = part[i].add(&message, failure)
				}
			}
			if err == nil {
				err = stream.SendMsg(message.Message())
			}
			a.gone(len(part))
		}
	}
	return err
}

// add adds the answer to a message.
func (a *sessionAnswer) add(to *wire.SessionAnswers, failure func(error) *storev1.Failure) error {
	receipt, err := recordedWith(a.receipt, a.err)
	if err != nil {
		return to.Failure(a.number, failure(err))
	}
	to.Receipt(a.number, &receipt)
	return nil
}

package storeapi

import (
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

// sessionAnswers are the answers on their way to the sender, which those who answer never wait for.
type sessionAnswers struct {
	wake chan struct{} // holds a token when there is something to send, or it is the end

	mu       sync.Mutex // guards what follows
	waiting  []sessionAnswer
	expected int // appends that are not answered
	ended    bool
}

func newSessionAnswers() *sessionAnswers { return &sessionAnswers{wake: make(chan struct{}, 1)} }

// expect says that n more appends are to be answered.
func (a *sessionAnswers) expect(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected += n
}

// put has an answer sent.
func (a *sessionAnswers) put(answer sessionAnswer) {
	a.mu.Lock()
	a.waiting = append(a.waiting, answer)
	a.expected--
	first := len(a.waiting) == 1
	a.mu.Unlock()
	if first {
		a.signal()
	}
}

// end says that no more appends are to be expected: the sender ends once all are answered.
func (a *sessionAnswers) end() {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	a.signal()
}

func (a *sessionAnswers) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
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
		for begin := 0; begin < len(all) && err == nil; begin += maxAnswers {
			for _, answer := range all[begin:min(begin+maxAnswers, len(all))] {
				if err == nil {
					err = answer.add(&message, failure)
				}
			}
			if err == nil {
				err = stream.SendMsg(message.Message())
			}
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

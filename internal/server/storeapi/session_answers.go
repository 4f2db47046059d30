package storeapi

import (
	"fmt"
	"runtime"
	"sync"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
)

// sessionAnswer is what became of an append of a session.
type sessionAnswer struct {
	number  uint64
	receipt eventstore.Receipt
	err     error
	size    int64 // the room that it takes in its session until it is sent
}

// sessionAnswers are the answers on their way to the sender, which those who answer never wait for. The room that each takes
// bounds them.
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

// send sends answers until there are no more. An answer's room is free when gRPC has taken it, for which a client that does
// not read has it wait. What cannot be sent ends the session by broken, and from then on answers are taken all the same, so
// that the session ends when all are there.
func (a *sessionAnswers) send(stream grpc.ServerStream, n *session, broken func(error)) (err error) {
	var message wire.SessionAnswers
	var all []sessionAnswer
	for over := false; !over; {
		<-a.wake
		runtime.Gosched() // answers come in crowds, and a message costs more than an answer
		all, over = a.take(all)
		for rest := all; len(rest) > 0; {
			count, size := 0, int64(0)
			for count == 0 || count < min(len(rest), maxAnswers) && message.Size() < maxAnswerBytes {
				if err == nil {
					err = rest[count].add(&message, n)
				}
				size += rest[count].size
				count++
			}
			if err == nil {
				err = stream.SendMsg(message.Message())
			}
			if err != nil {
				broken(err)
			}
			n.room.Release(size)
			rest = rest[count:]
		}
		clear(all) // a session that rests keeps nothing
	}
	return err
}

// add adds the answer to a message.
func (a *sessionAnswer) add(to *wire.SessionAnswers, n *session) error {
	receipt, err := recordedWith(a.receipt, a.err)
	if err != nil {
		if err := to.Failure(a.number, n.failure(err)); err != nil {
			return fmt.Errorf("answer append %d: %w", a.number, err)
		}
		return nil
	}
	to.Receipt(a.number, &receipt)
	return nil
}

package storeapi

import (
	"context"
	"sync/atomic"

	"github.com/tributary-es/tributary/eventstore"
)

// together is appends of a session that are queued together, and bounded in time together: what the store has not answered
// by then is answered without it, as Append would do.
type together struct {
	session  *session
	numbers  []uint64
	requests []eventstore.Request // the store's, once it has them
	sizes    []int64

	ctx      context.Context // ends when all are answered, or when the time is over
	release  func()          // ends ctx
	answered []atomic.Bool
	left     atomic.Int64 // that the store has not answered
}

// add adds an append. size is the room that it takes in its session.
func (t *together) add(number uint64, r eventstore.Request, size int64) {
	t.numbers, t.requests, t.sizes = append(t.numbers, number), append(t.requests, r), append(t.sizes, size)
}

// begin is called before they are given to the store.
func (t *together) begin(n *session) {
	t.session, t.answered = n, make([]atomic.Bool, len(t.requests))
	t.left.Store(int64(len(t.requests)))
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithTimeout(n.ctx, sessionTimeout)
	stop := context.AfterFunc(t.ctx, t.end)
	t.release = func() { stop(); cancel() }
}

// done takes an answer of the store. Where that is to be waited for, which is when an append asks for more than this server's
// disk, a goroutine does: one for each such append, of which the session's room bounds the number.
func (t *together) done(i int, a eventstore.Answer) {
	if a.Wait != nil {
		go func() { // the session waits for the answer
			receipt, err := a.Wait(t.ctx)
			t.done(i, eventstore.Answer{Receipt: receipt, Err: err})
		}()
		return
	}
	if size := t.sizes[i]; !t.answer(i, sessionAnswer{t.numbers[i], a.Receipt, a.Err, size}) {
		t.session.room.Release(size - size/2) // the answer has the other half
	}
	if t.left.Add(-1) == 0 {
		t.release()
	}
}

// answer answers an append, unless it is answered.
func (t *together) answer(i int, a sessionAnswer) bool {
	if t.answered[i].Swap(true) {
		return false
	}
	t.session.answers.put(a)
	return true
}

// end answers what is left when the time is over. The store has the appends still, so that they keep half of their room.
func (t *together) end() {
	for i, size := range t.sizes {
		t.answer(i, sessionAnswer{number: t.numbers[i], err: t.ctx.Err(), size: size / 2})
	}
}

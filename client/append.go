package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// What one message of a session carries, unless a single append is larger.
const (
	messageAppends = 256
	messageBytes   = 1 << 20
)

// appender sends the appends of all callers through one session at a time. Its goroutine owns the session; callers put
// their appends into the queue and wait.
type appender struct {
	client   *Client
	makesIDs bool
	prefix   string        // of the request ids that it makes
	wake     chan struct{} // holds a token when there may be something to send

	mu     sync.Mutex // guards what follows
	number uint64
	queue  []*call          // to be sent, in order
	sent   map[uint64]*call // sent in this session, not answered
	closed bool
	empty  chan struct{} // closed when closed is set and nothing is under way
}

// call is an append under way.
type call struct {
	ctx     context.Context
	number  uint64
	message *storev1.AppendRequest
	size    int
	made    bool // the request id is the client's
	told    bool // a server may have it

	receipt eventstore.Receipt
	err     error
	done    chan struct{} // closed when receipt and err are final
}

func newAppender(c *Client, makesIDs bool) *appender {
	return &appender{
		client: c, makesIDs: makesIDs, prefix: uuid.Must(uuid.NewV7()).String(),
		wake: make(chan struct{}, 1), sent: map[uint64]*call{}, empty: make(chan struct{}),
	}
}

// append has a normalized request sent, and waits for its answer.
func (a *appender) append(ctx context.Context, r *eventstore.Request) (eventstore.Receipt, error) {
	c := &call{ctx: ctx, message: wire.EncodeRequest(r), made: r.ID == "" && a.makesIDs, done: make(chan struct{})}
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			c.size += len(r.Appends[i].Events[j].Payload)
		}
	}
	if err := a.put(c); err != nil {
		return eventstore.Receipt{}, err
	}
	select {
	case <-c.done:
		return c.receipt, c.err
	case <-ctx.Done():
		return eventstore.Receipt{}, ctx.Err()
	}
}

func (a *appender) put(c *call) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return eventstore.ErrClosed
	}
	a.number++
	c.number = a.number
	if c.made {
		c.message.RequestId = a.prefix + "/" + strconv.FormatUint(c.number, 10)
	}
	a.queue = append(a.queue, c)
	a.wakeUp()
	return nil
}

func (a *appender) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// drain takes no more appends, and waits for those under way as long as the client is patient.
func (a *appender) drain() {
	a.mu.Lock()
	a.closed = true
	a.settled()
	a.mu.Unlock()
	patience := time.NewTimer(a.client.patience)
	defer patience.Stop()
	select {
	case <-a.empty:
	case <-patience.C:
	}
}

// settled wakes drain when there is nothing under way. REQUIRES: mu is held.
func (a *appender) settled() {
	if !a.closed || len(a.queue)+len(a.sent) > 0 {
		return
	}
	select {
	case <-a.empty:
	default:
		close(a.empty)
	}
}

// run keeps a session as long as there is something to append, until the client is closed.
func (a *appender) run() {
	life := a.client.life
	defer a.failAll(eventstore.ErrClosed)
	attempt := 0       // sessions that broke without having been of any use, in a row
	var down time.Time // since when
	for {
		if a.idle() {
			attempt = 0
			select {
			case <-a.wake:
			case <-life.Done():
				return
			}
		}
		useful, err := a.session(life)
		if life.Err() != nil {
			return
		}
		a.again(err)
		if useful || attempt == 0 {
			attempt, down = 0, time.Now()
		}
		attempt++
		if patient := time.Since(down) < a.client.patience; !errors.Is(err, eventstore.ErrUnavailable) || !patient {
			a.failAll(err)
			attempt = 0
			continue
		}
		pause(life, attempt-1)
	}
}

// again puts what was sent and not answered back into the queue, before what was not sent. What has no request id cannot
// be sent again.
func (a *appender) again(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	unanswered := slices.SortedFunc(maps.Values(a.sent), func(c, d *call) int { return cmp.Compare(c.number, d.number) })
	unanswered = slices.DeleteFunc(unanswered, func(c *call) bool {
		if c.message.GetRequestId() != "" {
			return false
		}
		c.fail(why)
		return true
	})
	a.queue = append(unanswered, a.queue...)
	clear(a.sent)
	a.settled()
}

// idle reports whether nothing is under way.
func (a *appender) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue)+len(a.sent) == 0
}

// failAll answers everything with err, or with what that means to an append that a server may have.
func (a *appender) failAll(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.sent {
		c.fail(err)
	}
	for _, c := range a.queue {
		c.fail(err)
	}
	a.queue = nil
	clear(a.sent)
	a.settled()
}

// fail ends a call without an answer.
func (c *call) fail(err error) {
	if c.told {
		err = &eventstore.OutcomeUnknownError{ID: c.message.GetRequestId(), Cause: err}
	}
	c.err = err
	close(c.done)
}

// session sends what is queued, and gives out what is answered, until the session breaks; useful says that an answer
// came, or that nobody waited for one any more.
func (a *appender) session(life context.Context) (useful bool, err error) {
	ctx, cancel := context.WithCancel(life)
	impatient := time.AfterFunc(a.client.patience, cancel)
	stream, err := a.client.api.AppendSession(ctx)
	impatient.Stop()
	if err != nil {
		cancel()
		return false, a.broken(life, err)
	}
	answered, rested := false, false
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			answered = true
			a.answer(m.GetAnswers())
		}
	}()
	for open := true; open; {
		if m := a.next(); m != nil {
			open = stream.Send(m) == nil // the reason comes from Recv
			continue
		}
		rested = rested || a.idle()
		select {
		case <-a.wake:
		case err := <-ended:
			cancel()
			return answered || rested, a.broken(life, err)
		}
	}
	err = <-ended
	cancel()
	return answered || rested, a.broken(life, err)
}

// broken returns why a session ended. A session that the server has ended in good order, or that has waited for a server
// as long as the client is patient, is as good as a broken one.
func (a *appender) broken(life context.Context, err error) error {
	err = a.client.errorOf(life, err)
	var e *Error
	if errors.As(err, &e) && e.Unwrap() == nil {
		return fmt.Errorf("append session: %w: %w", eventstore.ErrUnavailable, err)
	}
	return fmt.Errorf("append session: %w", err)
}

// next takes a message's worth of the queue; nil when it is empty. Those whose caller has gone are dropped.
func (a *appender) next() *storev1.AppendSessionRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	var m *storev1.AppendSessionRequest
	taken, size := 0, 0
	for _, c := range a.queue {
		if m != nil && (len(m.Appends) == messageAppends || size+c.size > messageBytes) {
			break
		}
		taken++
		if c.ctx.Err() != nil {
			c.fail(c.ctx.Err())
			continue
		}
		if m == nil {
			m = &storev1.AppendSessionRequest{}
		}
		size += c.size
		c.told = true
		a.sent[c.number] = c
		m.Appends = append(m.Appends, &storev1.SessionAppend{Number: c.number, Request: c.message})
	}
	a.queue = slices.Delete(a.queue, 0, taken)
	a.settled()
	return m
}

// answer gives the callers their answers.
func (a *appender) answer(answers []*storev1.SessionAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range answers {
		if c := a.sent[m.GetNumber()]; c != nil {
			delete(a.sent, c.number)
			c.take(m)
			close(c.done)
		}
	}
	a.settled()
}

// take reads an answer.
func (c *call) take(m *storev1.SessionAnswer) {
	receipt := m.GetReceipt()
	if f := m.GetFailure(); f != nil {
		c.err = failureOf(f)
		if cutShort(c.err) {
			c.err = &eventstore.OutcomeUnknownError{ID: c.message.GetRequestId(), Cause: c.err}
		}
		receipt = f.GetReceipt()
	}
	if receipt == nil {
		return
	}
	var err error
	if c.receipt, err = wire.DecodeReceipt(c.message.GetTenant(), receipt); err != nil {
		c.err = err
	}
	if c.made { // a duplicate can only be the client's own repetition
		c.receipt.ID, c.receipt.Duplicate = "", false
	}
}

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

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
	ids      atomic.Uint64 // how many it has made
	wake     chan struct{} // holds a token when there may be something to send

	mu     sync.Mutex // guards what follows
	number uint64
	queue  []*call          // to be sent, in order
	sent   map[uint64]*call // sent in this session, not answered
	closed bool
	empty  chan struct{} // closed when closed is set and nothing is under way
}

// call is an append under way. It is borrowed from a pool; a caller that leaves before the answer leaves it behind.
type call struct {
	ctx     context.Context
	number  uint64
	request eventstore.Request
	message []byte // the request in its wire form
	made    bool   // the request id is the client's
	told    bool   // a server may have it

	receipt []byte // in its wire form; nil when there is none
	err     error
	done    chan struct{} // has a token when receipt and err are final, and only the caller has the call
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// keptMessage bounds what is kept for another call.
const keptMessage = 64 << 10

// giveBack keeps the memory for another call. REQUIRES: the caller has taken the token, or nobody else ever had the call.
func (c *call) giveBack() {
	if cap(c.message) <= keptMessage {
		*c = call{message: c.message[:0], done: c.done}
		calls.Put(c)
	}
}

func newAppender(c *Client, makesIDs bool) *appender {
	return &appender{
		client: c, makesIDs: makesIDs, prefix: uuid.Must(uuid.NewV7()).String() + "/",
		wake: make(chan struct{}, 1), sent: map[uint64]*call{}, empty: make(chan struct{}),
	}
}

// append has a normalized request sent, and waits for its answer.
func (a *appender) append(ctx context.Context, r *eventstore.Request) (eventstore.Receipt, error) {
	c := calls.Get().(*call)
	c.ctx, c.request, c.made = ctx, *r, r.ID == "" && a.makesIDs
	if c.made {
		c.request.ID = a.prefix + strconv.FormatUint(a.ids.Add(1), 10)
	}
	c.message = wire.AppendRequest(c.message, &c.request)
	if err := a.put(c); err != nil {
		c.giveBack()
		return eventstore.Receipt{}, err
	}
	if left := ctx.Done(); left != nil {
		select {
		case <-c.done:
		case <-left:
			return eventstore.Receipt{}, ctx.Err()
		}
	} else {
		<-c.done
	}
	receipt, err := c.answer()
	c.giveBack()
	return receipt, err
}

func (a *appender) put(c *call) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return eventstore.ErrClosed
	}
	a.number++
	c.number = a.number
	a.queue = append(a.queue, c)
	if len(a.queue) == 1 {
		a.wakeUp()
	}
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
		if c.request.ID != "" {
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
		err = &eventstore.OutcomeUnknownError{ID: c.request.ID, Cause: err}
	}
	c.err = err
	c.done <- struct{}{}
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
		var calls []*call
		for {
			m := wire.Raw{}
			err := stream.RecvMsg(&m)
			if err == nil {
				answered = true
				calls, err = a.answer(m.Bytes, calls)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for open := true; open; {
		runtime.Gosched() // callers come in crowds, and a message costs more than an append
		if m := a.next(); m != nil {
			open = stream.SendMsg(m) == nil // the reason comes from RecvMsg
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
func (a *appender) next() *wire.Encoded {
	a.mu.Lock()
	defer a.mu.Unlock()
	var m wire.SessionAppendsMessage
	taken, appends := 0, 0
	for _, c := range a.queue {
		if appends == messageAppends || appends > 0 && m.Size()+len(c.message) > messageBytes {
			break
		}
		taken++
		if c.ctx.Err() != nil {
			c.fail(c.ctx.Err())
			continue
		}
		c.told = true
		a.sent[c.number] = c
		m.Add(c.number, c.message)
		appends++
	}
	a.queue = slices.Delete(a.queue, 0, taken)
	a.settled()
	return m.Message()
}

// answer gives the callers the answers of a message. The callers are woken when mu is free, for it is what they want next;
// spare is memory for them.
func (a *appender) answer(message []byte, spare []*call) (answered []*call, err error) {
	answered = spare[:0]
	a.mu.Lock()
	err = wire.ReadAnswers(message, func(number uint64, receipt []byte, f *storev1.Failure) {
		if c := a.sent[number]; c != nil {
			delete(a.sent, number)
			c.take(receipt, f)
			answered = append(answered, c)
		}
	})
	a.settled()
	a.mu.Unlock()
	for i, c := range answered {
		answered[i] = nil
		c.done <- struct{}{}
	}
	return answered, err
}

// errNoOutcome is met when a later server says what this client does not know.
var errNoOutcome = errors.New("the server's answer is neither a receipt nor a failure that this client knows")

// take takes an answer.
func (c *call) take(receipt []byte, f *storev1.Failure) {
	c.receipt = receipt
	if f == nil {
		if receipt == nil {
			c.err = &eventstore.OutcomeUnknownError{ID: c.request.ID, Cause: errNoOutcome}
		}
		return
	}
	c.err = failureOf(f)
	if cutShort(c.err) {
		c.err = &eventstore.OutcomeUnknownError{ID: c.request.ID, Cause: c.err}
	}
	if r := f.GetReceipt(); r != nil {
		var err error
		if c.receipt, err = proto.Marshal(r); err != nil {
			c.err = fmt.Errorf("read the answer: %w", err)
		}
	}
}

// answer returns what an answered append came to. It is for the caller: reading receipts is work that callers share.
func (c *call) answer() (eventstore.Receipt, error) {
	if c.receipt == nil {
		return eventstore.Receipt{}, c.err
	}
	receipt, err := wire.ReadReceipt(c.receipt, &c.request)
	if err != nil {
		return receipt, err
	}
	if c.made { // a duplicate can only be the client's own repetition
		receipt.ID, receipt.Duplicate = "", false
	}
	return receipt, c.err
}

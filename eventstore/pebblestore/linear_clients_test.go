package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

func (in linearInput) stream(i int) eventstore.StreamID {
	return eventstore.Stream("cell", fmt.Sprintf("%d-%d", in.Cell, i))
}

func (in linearInput) tag(i int) string { return fmt.Sprintf("cell:%d-%d", in.Cell, i) }

func (in linearInput) request() eventstore.Request {
	r := eventstore.Request{ID: in.ID}
	for i, n := range in.Counts {
		if n == 0 {
			continue
		}
		a := eventstore.StreamAppend{Stream: in.stream(i), Expect: in.Expects[i]}
		for range n {
			a.Events = append(a.Events, eventstore.Event{Type: "cell.changed.v1", Payload: []byte(in.ID)})
		}
		if r.Appends == nil {
			for k, tagged := range in.Tags {
				if tagged {
					a.Events[0].Tags = append(a.Events[0].Tags, in.tag(k))
				}
			}
		}
		r.Appends = append(r.Appends, a)
	}
	if in.Tag >= 0 {
		r.Condition = &eventstore.Condition{Query: eventstore.Tagged(in.tag(in.Tag))}
		if in.After > 0 {
			r.Condition.After = eventstore.Position{Incarnation: 1, LSN: in.After}
		}
	}
	return r
}

// perform asks a store and puts its answer into a form that the model knows.
func (in linearInput) perform(ctx context.Context, s eventstore.Store) (out linearOutput) {
	out.Found = [cellStreams]int64{-1, -1}
	var err error
	switch {
	case in.Read && in.Stream >= 0:
		out.Value, err = s.Version(ctx, in.stream(in.Stream))
	case in.Read:
		for e, failed := range s.ReadAllBackwards(ctx, eventstore.Position{}, eventstore.Filter{Query: eventstore.Tagged(in.tag(in.Tag))}) {
			out.Value, err = e.Position.LSN, failed
			break
		}
	default:
		var receipt eventstore.Receipt
		receipt, err = s.Append(ctx, in.request())
		out.told(in, receipt, err)
		if errors.Is(err, eventstore.ErrConflict) {
			err = nil
		}
	}
	if err != nil {
		out.Fault = err.Error()
	}
	return out
}

// told takes the answer to an append.
func (out *linearOutput) told(in linearInput, receipt eventstore.Receipt, err error) {
	var conflict *eventstore.ConflictError
	if errors.As(err, &conflict) {
		for _, c := range conflict.Conflicts {
			for i := range in.Counts {
				if c.Stream == in.stream(i) {
					out.Found[i] = int64(c.Got)
				}
			}
		}
		if conflict.Condition != nil {
			out.Met = conflict.Condition.Found.LSN
		}
		return
	}
	out.Accepted, out.Duplicate = err == nil, receipt.Duplicate
	out.First, out.Last = receipt.First.LSN, receipt.Position.LSN
	for i := range in.Counts {
		out.Versions[i] = receipt.Stream(in.stream(i)).Last
	}
}

// target is a store that dies and comes back while clients use it. ask returns false when it died and there is no answer
// that counts: the request may have been applied or not, and is no longer under way.
type target interface {
	ask(client int, in linearInput) (linearOutput, bool)
}

// clients makes one history: clients that draw what they ask, and repeat what got no answer.
type clients struct {
	target target
	rng    *rand.Rand
	size   int   // operations
	due    []int // numbers of operations at which the target dies

	start time.Time
	count atomic.Int64

	mu      sync.Mutex // guards what follows, and rng
	history []porcupine.Operation
	open    []porcupine.Operation // requests whose answers are not known, and which nobody repeats at present
	given   int                   // times that a client gave up
	known   map[int]cellState     // about what is there, from answers
	taken   []linearInput         // requests that were accepted
}

const (
	linearClients = 8
	linearCells   = 5
)

func newClients(target target, rng *rand.Rand, size, deaths int) *clients {
	c := &clients{target: target, rng: rng, size: size, start: time.Now(), known: map[int]cellState{}}
	for i := range deaths {
		c.due = append(c.due, (i+1)*size/(deaths+1)+rng.IntN(size/(4*deaths)))
	}
	return c
}

func (c *clients) now() int64 { return int64(time.Since(c.start)) }

// run lets all clients ask until the history has its size. When a death is due it calls die, in a goroutine of its own.
func (c *clients) run(die func()) {
	due := make(chan struct{}, len(c.due))
	var asking, dying sync.WaitGroup
	dying.Go(func() {
		for range due {
			die()
		}
	})
	for client := range linearClients {
		asking.Go(func() {
			for {
				n := int(c.count.Add(1))
				if n > c.size {
					return
				}
				if slices.Contains(c.due, n) {
					due <- struct{}{}
				}
				c.ask(client, c.draw(n))
			}
		})
	}
	asking.Wait()
	close(due)
	dying.Wait()
}

// draw returns the n-th operation, which begins now, or began when somebody gave it up whose request it repeats.
func (c *clients) draw(n int) porcupine.Operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := len(c.open) - 1; i >= 0 && c.rng.IntN(30) == 0 {
		op := c.open[i]
		c.open = c.open[:i]
		return op
	}
	return porcupine.Operation{Input: c.drawInput(n), Call: c.now()}
}

// drawInput returns what the n-th operation asks. REQUIRES: mu is held.
func (c *clients) drawInput(n int) linearInput {
	rng := c.rng
	in := linearInput{Cell: rng.IntN(linearCells), Stream: -1, Tag: -1}
	known := c.known[in.Cell]
	switch kind := rng.IntN(20); {
	case kind < 3:
		in.Read, in.Stream = true, rng.IntN(cellStreams)
		return in
	case kind < 6:
		in.Read, in.Tag = true, rng.IntN(cellTags)
		return in
	case kind < 9 && len(c.taken) > 0:
		// Most often a young one, which may not have left memory; now and then one that was answered long ago.
		back := min(len(c.taken), 1+rng.IntN(1<<rng.IntN(11)))
		in = c.taken[len(c.taken)-back]
		in.Again = true
		return in
	}
	in.ID = fmt.Sprint("request-", n)
	for total := 0; total == 0; {
		for i := range in.Counts {
			in.Counts[i] = rng.IntN(3)
			total += in.Counts[i]
		}
	}
	for i := range in.Expects {
		switch rng.IntN(8) {
		case 0:
			in.Expects[i] = eventstore.Exists
		case 1:
			in.Expects[i] = eventstore.NoStream
		case 2, 3, 4:
			in.Expects[i] = eventstore.Exactly(known.versions[i])
		}
	}
	for i := range in.Tags {
		in.Tags[i] = rng.IntN(2) == 0
	}
	if rng.IntN(2) == 0 {
		in.Tag = rng.IntN(cellTags)
		in.After = known.lasts[in.Tag]
		if rng.IntN(5) == 0 {
			in.After = uint64(rng.Int64N(int64(known.end) + 1))
		}
	}
	return in
}

// ask asks until there is an answer; now and then a client gives up before.
func (c *clients) ask(client int, op porcupine.Operation) {
	op.ClientId = client
	in := op.Input.(linearInput)
	for {
		out, answered := c.target.ask(client, in)
		if answered {
			c.settle(op, out)
			return
		}
		if in.Read || in.Again { // they leave nothing behind
			return
		}
		if c.givesUp(op) {
			return
		}
	}
}

// givesUp draws whether a client repeats a request that got no answer, or leaves it to somebody else, or to nobody.
func (c *clients) givesUp(op porcupine.Operation) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rng.IntN(4) > 0 {
		return false
	}
	c.given++
	c.open = append(c.open, op)
	return true
}

func (c *clients) settle(op porcupine.Operation, out linearOutput) {
	op.Output, op.Return = out, c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, op)
	in := op.Input.(linearInput)
	if !out.Accepted || in.Again {
		return
	}
	c.taken = append(c.taken, in)
	known := c.known[in.Cell]
	known.end = max(known.end, out.Last)
	for i := range in.Counts {
		known.versions[i] = max(known.versions[i], out.Versions[i])
	}
	for i, tagged := range in.Tags {
		if tagged {
			known.lasts[i] = max(known.lasts[i], out.First)
		}
	}
	c.known[in.Cell] = known
}

// resolve asks the store, which dies no more, what became of the requests that nobody waited for, and reads all cells once
// more: what is in them has to be explained by the history.
func (c *clients) resolve(ctx context.Context, s eventstore.Store) error {
	for _, op := range c.open {
		receipt, _, err := s.Receipt(ctx, "", op.Input.(linearInput).ID)
		if errors.Is(err, eventstore.ErrNotFound) {
			continue // it had no effect
		}
		if err != nil {
			return err
		}
		var out linearOutput
		out.told(op.Input.(linearInput), receipt, nil)
		c.settle(op, out)
	}
	for cell := range linearCells {
		for i := range cellStreams {
			in := linearInput{Cell: cell, Read: true, Stream: i, Tag: -1}
			op := porcupine.Operation{Input: in, Call: c.now()}
			c.settle(op, in.perform(ctx, s))
		}
		for i := range cellTags {
			in := linearInput{Cell: cell, Read: true, Stream: -1, Tag: i}
			op := porcupine.Operation{Input: in, Call: c.now()}
			c.settle(op, in.perform(ctx, s))
		}
	}
	return nil
}

// histories are what the histories of a test have shown so far.
type histories struct {
	size int // operations of each

	mu        sync.Mutex // guards what follows
	result    reliability.Result
	undecided int
	given     int // times that a client gave up
}

// make has one history made for each number, most of them at once, for the clients of one wait for its disk and its deaths
// most of the time. It ends early when one shows a fault or there is no time left, and prints the result.
func (h *histories) make(t *testing.T, count, most int, one func(n int)) {
	t.Helper()
	sideBySide(count, most, func(n int) bool {
		if t.Failed() || !reliability.TimeLeft(t) {
			return false
		}
		one(n)
		return true
	})
	h.result.Seeds = h.result.Cycles
	h.result.Extra = map[string]any{"operations each": h.size, "undecided": h.undecided, "answers never waited for": h.given}
	h.result.Print(t)
}

// judge asks the store for what the history has not settled, and adds what it finds in it to the result. The store has died
// so often.
func (h *histories) judge(t *testing.T, what string, c *clients, s eventstore.Store, deaths int) {
	t.Helper()
	if err := c.resolve(context.Background(), s); err != nil {
		h.fault(t, "%s: %v", what, err)
		return
	}
	acked, wrong, undecided := c.verdict()
	if wrong != "" {
		h.fault(t, "%s: %s", what, wrong)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.result.Cycles++
	h.result.Acked += acked
	h.result.Faults += deaths
	h.given += c.given
	if undecided {
		h.undecided++
		t.Errorf("%s: not decided in a minute", what)
	}
}

// verify wants the store to verify.
func (h *histories) verify(t *testing.T, what string, s *Store) {
	t.Helper()
	report, err := s.Verify(context.Background(), nil)
	if err != nil {
		h.fault(t, "%s: verify: %v", what, err)
	}
	for _, fault := range report.Faults {
		h.fault(t, "%s: verify: %s", what, fault)
	}
}

// fault adds something that is wrong.
func (h *histories) fault(t *testing.T, format string, args ...any) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.result.Violations++
	t.Errorf(format, args...)
}

// verdict counts the requests that were accepted, and says what is wrong with the history.
func (c *clients) verdict() (acked int, wrong string, undecided bool) {
	for _, op := range c.history {
		out := op.Output.(linearOutput)
		if out.Accepted {
			acked++
		}
		if out.Fault != "" {
			return acked, fmt.Sprintf("%+v: %s", op.Input, out.Fault), false
		}
	}
	if err := checkOrder(c.history); err != nil {
		return acked, err.Error(), false
	}
	switch porcupine.CheckOperationsTimeout(cellModel, c.history, time.Minute) {
	case porcupine.Illegal:
		return acked, "no order of the operations explains the answers", false
	case porcupine.Unknown:
		return acked, "", true
	}
	return acked, "", false
}

package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
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

// perform asks the store and puts its answer into a form that the model knows.
func (in linearInput) perform(ctx context.Context, s *Store) (out linearOutput) {
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

// target is a store that dies and comes back while clients use it. ask returns false when it died in between: what the
// client was told then counts for nothing, and the request may have been applied or not.
type target interface {
	ask(in linearInput) (linearOutput, bool)
}

// clients makes one history: clients that draw what they ask, and repeat what got no answer.
type clients struct {
	target target
	rng    *rand.Rand
	size   int           // operations
	due    []int         // numbers of operations after which the target dies
	die    chan struct{} // gets a token at each of them

	start time.Time
	count atomic.Int64

	mu      sync.Mutex // guards what follows, and rng
	history []porcupine.Operation
	open    map[string]porcupine.Operation // requests whose answers are not known
	known   map[int]cellState              // about what is there, from answers
	taken   []linearInput                  // requests that were accepted
}

const (
	linearClients = 8
	linearCells   = 5
)

func newClients(rng *rand.Rand, size, deaths int) *clients {
	c := &clients{rng: rng, size: size, start: time.Now(), die: make(chan struct{}, deaths), known: map[int]cellState{}, open: map[string]porcupine.Operation{}}
	for i := range deaths {
		c.due = append(c.due, (i+1)*size/(deaths+1)+rng.IntN(size/(4*deaths)))
	}
	return c
}

func (c *clients) now() int64 { return int64(time.Since(c.start)) }

// run lets all clients ask until the history has its size.
func (c *clients) run() {
	var all sync.WaitGroup
	for client := range linearClients {
		all.Go(func() {
			for {
				n := int(c.count.Add(1))
				if n > c.size {
					return
				}
				for _, due := range c.due {
					if n == due {
						c.die <- struct{}{}
					}
				}
				c.ask(client, c.draw(n))
			}
		})
	}
	all.Wait()
}

// draw returns the n-th operation.
func (c *clients) draw(n int) linearInput {
	c.mu.Lock()
	defer c.mu.Unlock()
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
		// Most often a young one, which may not have left memory.
		back := min(len(c.taken), 1+rng.IntN(1<<rng.IntN(8)))
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
func (c *clients) ask(client int, in linearInput) {
	op := porcupine.Operation{ClientId: client, Input: in, Call: c.now()}
	for {
		out, answered := c.target.ask(in)
		c.mu.Lock()
		giveUp := c.rng.IntN(10) == 0
		c.mu.Unlock()
		if answered {
			c.settle(op, out)
			return
		}
		if in.Read || in.Again { // they leave nothing behind
			return
		}
		if giveUp {
			c.mu.Lock()
			c.open[in.ID] = op
			c.mu.Unlock()
			return
		}
	}
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
func (c *clients) resolve(ctx context.Context, s *Store) error {
	for id, op := range c.open {
		receipt, _, err := s.Receipt(ctx, "", id)
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

// judge adds what it finds in the history to the result.
func (c *clients) judge(t *testing.T, what string, result *reliability.Result, undecided *int) {
	t.Helper()
	result.Cycles++
	for _, op := range c.history {
		if op.Output.(linearOutput).Accepted {
			result.Acked++
		}
		if fault := op.Output.(linearOutput).Fault; fault != "" {
			result.Violations++
			t.Errorf("%s: %+v: %s", what, op.Input, fault)
			return
		}
	}
	if err := checkOrder(c.history); err != nil {
		result.Violations++
		t.Errorf("%s: %v", what, err)
		return
	}
	switch verdict := porcupine.CheckOperationsTimeout(cellModel, c.history, time.Minute); verdict {
	case porcupine.Illegal:
		result.Violations++
		t.Errorf("%s: no order of the operations explains the answers", what)
	case porcupine.Unknown:
		*undecided++
		t.Errorf("%s: not decided in a minute", what)
	}
}

// powered is a store on a disk in memory that loses power.
type powered struct {
	t   *testing.T
	rng *rand.Rand // of the one who takes the power

	mu    sync.RWMutex // guards what follows
	store *Store
	disk  *vfs.MemFS
	life  int

	held   atomic.Bool // the next sync of the WAL waits until the power is gone
	inSync chan struct{}
	closed sync.WaitGroup // stores of earlier lives
}

// ask implements target.
func (p *powered) ask(in linearInput) (linearOutput, bool) {
	p.mu.RLock()
	s, life := p.store, p.life
	p.mu.RUnlock()
	out := in.perform(context.Background(), s)
	p.mu.RLock()
	defer p.mu.RUnlock()
	return out, life == p.life
}

// open opens the store on a disk. Syncs of its WAL take a moment, so that there is something that is not yet durable.
func (p *powered) open(disk *vfs.MemFS) {
	o := smallSizes(p.rng)
	slow := rand.New(rand.NewPCG(p.rng.Uint64(), 1))
	var mu sync.Mutex // guards slow
	o.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !isWALSync(op) {
			return nil
		}
		if p.held.CompareAndSwap(true, false) {
			p.inSync <- struct{}{}
			time.Sleep(3 * time.Millisecond)
			return nil
		}
		mu.Lock()
		pause := slow.IntN(300)
		mu.Unlock()
		time.Sleep(time.Duration(pause) * time.Microsecond)
		return nil
	}))
	s, err := Open("data/store", &o)
	if err != nil {
		p.t.Errorf("open after a power loss: %v", err)
		return
	}
	p.store, p.disk = s, disk
}

// losePower takes the power away in the middle of a sync, a moment after it began: what is told before its time is told by
// then.
func (p *powered) losePower() {
	p.held.Store(true)
	select {
	case <-p.inSync:
		time.Sleep(time.Duration(p.rng.IntN(1500)) * time.Microsecond)
	case <-time.After(time.Second): // nobody appends any more
		p.held.Store(false)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life++
	old := p.store
	p.closed.Go(func() {
		if err := old.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
	})
	p.open(p.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * p.rng.IntN(5), RNG: p.rng}))
}

// TestLinearizable wants every history of concurrent requests, with expected versions, conditions, repetitions and reads,
// under power losses in the middle of syncs, to be one that a single, immortal store could have given. It is T14 of
// docs/reliability.md, and shows S1, S4, S6, S7 and S16.
func TestLinearizable(t *testing.T) {
	histories, size := 25, 1000
	if *reliability.Long {
		histories, size = 2000, 2000
	}
	const deaths = 4
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	result := reliability.Result{Test: "T14", What: fmt.Sprintf("histories of %d operations, power lost in the middle of syncs", size), Seed: seed}
	undecided, given := 0, 0
	for n := 0; n < histories && reliability.TimeLeft(t); n++ {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		p := &powered{t: t, rng: rand.New(rand.NewPCG(seed, rng.Uint64())), inSync: make(chan struct{}, 1)}
		p.open(vfs.NewCrashableMem())
		c := newClients(rng, size, deaths)
		c.target = p
		var power sync.WaitGroup
		power.Go(func() {
			for range c.die {
				p.losePower()
			}
		})
		c.run()
		close(c.die)
		power.Wait()
		p.closed.Wait()
		if t.Failed() {
			break
		}
		given += len(c.open)
		if err := c.resolve(context.Background(), p.store); err != nil {
			t.Fatal(err)
		}
		c.judge(t, fmt.Sprintf("history %d", n), &result, &undecided)
		for _, fault := range verify(t, p.store).Faults {
			result.Violations++
			t.Errorf("history %d: verify: %s", n, fault)
		}
		if err := p.store.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
		result.Faults += p.life
	}
	result.Seeds = result.Cycles
	result.Extra = map[string]any{"undecided": undecided, "answers never waited for": given}
	result.Print(t)
}

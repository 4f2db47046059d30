package replication_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// keeper is what a site has beside its core where some streams are written at one site alone: the fence that its store asks, and the
// owner of its cells, both as they are in production. The owner waits in the simulation's time: what it does are strands, of which one
// runs at a time.
type keeper struct {
	s     *site
	fence *replication.Fence
	owner *replication.Owner
	ctx   context.Context
	end   context.CancelFunc

	follows *strand // Owner.Run
	acts    *strand // something else that the owner does; nil: nothing
	running *strand
	writing *strand // it waits for the store, and nothing else of the owner's can go on
}

// strand is something that waits now and then.
type strand struct {
	next  func() (ready func() bool, more bool)
	stop  func()
	yield func(ready func() bool) bool
	ready func() bool
}

func newStrand(do func()) *strand {
	st := &strand{ready: func() bool { return true }}
	st.next, st.stop = iter.Pull(func(yield func(func() bool) bool) {
		st.yield = yield
		do()
	})
	return st
}

// shardOf is the shard of a site.
func shardOf(name string) replication.Shard { return replication.Shard{Number: 1, Region: name} }

// homed reports whether a category is written at one site at a time.
func homed(category string) bool { return category == "vault" }

// check is the fence of the site's log.
func (s *site) check(stream eventstore.StreamID, cell uint16) (uint32, error) {
	if s.keeper == nil {
		return 0, nil
	}
	return s.keeper.fence.Check(stream, cell)
}

// atHome is what the fence asks in the moment in which something is accepted.
func (s *site) atHome() error {
	if s.core == nil {
		return replication.ErrStopped
	}
	now := s.clock.at(s.w.now)
	until, err := s.core.AtHome(now)
	if err == nil && now.Mono >= until {
		err = replication.ErrAway
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err) // as Site.AtHome has it
	}
	return err
}

// writable reports whether the site may record events of its own.
func (s *site) writable() bool { return s.core != nil && s.core.Writable() == nil }

// beginKeeper has the site know who owns what.
func (s *site) beginKeeper() {
	if s.w.ring == nil {
		return
	}
	k := &keeper{s: s, fence: replication.NewFence(shardOf(s.name), homed)}
	k.ctx, k.end = context.WithCancel(context.Background())
	k.fence.Watch(s.atHome)
	s.keeper = k
	var err error
	if k.owner, err = replication.NewOwner(k.ctx, k.fence, s.w.ring, waitingStore{k: k}, slog.New(slog.DiscardHandler)); err != nil {
		s.w.oracle.violated("the owner", "%s cannot read who owns the cells: %v", s.name, err)
		return
	}
	k.owner.Told = func(_ context.Context, events []eventstore.Recorded) error {
		s.step(replication.OnRecord{Events: events})
		return nil
	}
	s.step(replication.Members{Sites: s.w.names(), Auto: s.w.plan.auto, Takes: true})
	k.follows = newStrand(func() {
		if err := k.owner.Run(k.ctx); k.ctx.Err() == nil {
			s.w.oracle.violated("the owner", "%s follows who owns the cells no more: %v", s.name, err)
		}
	})
	k.goOn()
}

// endKeeper ends what the site's owner does, wherever it is.
func (s *site) endKeeper() {
	k := s.keeper
	if k == nil {
		return
	}
	k.end()
	s.keeper = nil
	for _, st := range []*strand{k.acts, k.follows} {
		if st != nil && st != k.running { // that one finds that it is over
			st.stop()
		}
	}
}

// goOn lets go on what need not wait any more.
func (k *keeper) goOn() {
	for k.running == nil && k.s.keeper == k {
		st := k.writing
		switch {
		case st != nil && !st.ready():
			return
		case st != nil:
		case k.acts != nil && k.acts.ready():
			st = k.acts
		case k.follows.ready():
			st = k.follows
		default:
			return
		}
		k.running, k.writing = st, nil
		ready, more := st.next()
		k.running, st.ready = nil, ready
		if !more && st == k.acts {
			k.acts = nil
		} else if !more {
			st.ready = func() bool { return false }
			return // it was ended
		}
	}
}

// act has the owner do something, unless it is at something else.
func (k *keeper) act(do func()) {
	if k.acts != nil || k.running != nil || k.writing != nil {
		return
	}
	k.acts = newStrand(do)
	k.goOn()
}

// enter has entries put on record. Those that cannot be now come again.
func (k *keeper) enter(entries []replication.Entry) {
	if len(entries) == 0 {
		return
	}
	k.act(func() {
		for _, e := range entries {
			k.s.w.tracef("%s enters %s", k.s.name, e.String())
			if err := k.owner.Enter(k.ctx, e); err != nil {
				k.s.w.tracef("%s has not entered %s: %v", k.s.name, e.String(), err)
			}
		}
	})
}

// move gives a cell away, if it is the site's.
func (k *keeper) move(cell uint16, to *site) {
	k.act(func() {
		if err := k.owner.Move(k.ctx, cell, shardOf(to.name)); err == nil {
			k.s.w.tracef("%s has sealed cell %d for %s", k.s.name, cell, to.name)
			k.s.w.askToTake(cell)
		}
	})
}

// take has an operator ask the site for a cell that it knows to be sealed for another one, which it hears.
func (k *keeper) take(cell uint16) {
	heard := func(_ context.Context, site string) (bool, error) {
		peers := k.s.core.Status(k.s.instant()).Peers
		return slices.ContainsFunc(peers, func(p replication.PeerStatus) bool { return p.Site == site && p.Up }), nil
	}
	c, _ := k.fence.Cell(cell)
	if there, _ := heard(k.ctx, c.Next.Region); !c.Sealed || !there {
		return
	}
	k.act(func() {
		err := k.owner.Take(k.ctx, cell, c.Home, "an operator is wrong", heard)
		k.s.w.tracef("%s is asked to take cell %d, which is on its way to %s: %v", k.s.name, cell, c.Next, err)
		if errors.Is(err, replication.ErrMoving) {
			k.s.w.faults.count(takesRefused)
		}
	})
}

// waitingStore is the site's log as a store, for the owner.
type waitingStore struct {
	eventstore.Store // what the owner does not ask for
	k                *keeper
}

// wait waits in the strand that runs.
func (w waitingStore) wait(ready func() bool) error {
	if st := w.k.running; w.k.ctx.Err() == nil && st.yield(ready) {
		return nil
	}
	return context.Canceled
}

// Append implements eventstore.Appender: it takes a while until the request is accepted, as soon as the site may write, and then until
// it is durable.
func (w waitingStore) Append(_ context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	s, st := w.k.s, w.k.running
	wait := func(begin func(done func())) error {
		done := false
		begin(func() {
			done = true
			w.k.goOn()
		})
		if done {
			return nil
		}
		w.k.writing = st
		return w.wait(func() bool { return done })
	}
	for begun := false; !begun || !s.writable(); begun = true {
		if err := wait(func(done func()) { s.within(s.storeDelay(), done) }); err != nil {
			return eventstore.Receipt{}, err
		}
	}
	s.w.oracle.timed(s)
	receipt, err := s.log.Accept(r)
	if err != nil {
		return receipt, err
	}
	return receipt, wait(func(done func()) { s.whenDurable(s.log.Accepted().LSN, done) })
}

// Log implements eventstore.Reader.
func (w waitingStore) Log(context.Context) (eventstore.LogState, error) {
	return eventstore.LogState{ID: w.k.s.log.ID(), Durable: w.k.s.log.Durable()}, nil
}

// Read implements eventstore.Reader.
func (w waitingStore) Read(_ context.Context, stream eventstore.StreamID, _ uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range w.k.s.read(stream) {
			if !yield(*e, nil) {
				return
			}
		}
	}
}

// ReadAll implements eventstore.Reader.
func (w waitingStore) ReadAll(_ context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range w.k.s.log.Events()[after.LSN:] {
			if f.Matches(&e) && !yield(e, nil) {
				return
			}
		}
	}
}

// Subscribe implements eventstore.Reader.
func (w waitingStore) Subscribe(_ context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	return &subscription{w, after.LSN, f}, nil
}

type subscription struct {
	store  waitingStore
	next   uint64
	filter eventstore.Filter
}

// Next implements eventstore.Subscription.
func (sub *subscription) Next(context.Context) (eventstore.Chunk, error) {
	s := sub.store.k.s
	log := s.log
	if log.Durable().LSN == sub.next {
		if err := sub.store.wait(func() bool { return log.Durable().LSN > sub.next }); err != nil {
			return eventstore.Chunk{}, err
		}
	}
	var chunk eventstore.Chunk
	events := log.Events()
	if uint64(len(events)) < log.Durable().LSN {
		s.w.oracle.violated("the owner", "%s says that its log is durable up to %d, and has %d events that are", s.name, log.Durable().LSN, len(events))
		return chunk, eventstore.ErrWrongIncarnation
	}
	for _, e := range events[sub.next:] {
		if sub.filter.Matches(&e) {
			chunk.Events = append(chunk.Events, e)
		}
	}
	chunk.Position, chunk.Durable = log.Durable(), log.Durable()
	sub.next = log.Durable().LSN
	return chunk, nil
}

// Close implements eventstore.Subscription.
func (sub *subscription) Close() {}

package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// checkOut gets the state of a stream that the caller has locked: from the cache, or from the log. With refresh, a state
// from the cache is brought up to the log's end, for which only the events that it lacks are read.
func (b *Bus) checkOut(ctx context.Context, w *work, refresh bool) error {
	f, found := b.cache.take(w.stream).(*folded)
	if !found {
		b.counters.misses.Add(1)
		if f = b.restored(ctx, w); f == nil {
			f = &folded{stream: w.stream, state: w.aggregate.newInstance(), born: b.cache.birth()}
		}
		if w.aggregate.resolver() == ByEscrow {
			own, err := b.store.Log(ctx)
			if err != nil {
				return fmt.Errorf("state of log: %w", err)
			}
			f.site = own.ID.Site
		}
		return b.catchUp(ctx, w, f)
	}
	b.counters.hits.Add(1)
	if err := b.foldPending(f); err != nil {
		return err
	}
	if refresh {
		return b.catchUp(ctx, w, f)
	}
	b.keep(ctx, w.aggregate, f)
	w.folded = f
	return nil
}

// putBack returns the states to the cache, apart from those that have folded events which are not in the log.
func (b *Bus) putBack(p *plan) {
	for _, s := range p.scopes {
		b.putBackScope(s)
	}
	for _, w := range p.work {
		if w.folded != nil && w.applied == 0 {
			b.cache.put(w.folded)
		}
		w.folded = nil
	}
}

// catchUp folds the events of the log that a state lacks, and makes it the one to work with. After an error there is none.
func (b *Bus) catchUp(ctx context.Context, w *work, f *folded) error {
	events, rewound, err := f.readOn(ctx, b.store, w.aggregate.newInstance)
	b.counters.folded.Add(events)
	if rewound {
		b.counters.rewinds.Add(1)
	}
	if err != nil {
		return err
	}
	b.keep(ctx, w.aggregate, f)
	w.folded, w.fresh = f, true
	return nil
}

// foldPending folds what the log has and the state has not. After an error the state is of no use.
func (b *Bus) foldPending(f *folded) error {
	first := f.version - uint64(len(f.pending)) + 1
	for i := range f.pending {
		if err := f.foldEvent(&f.pending[i], first+uint64(i)); err != nil {
			return err
		}
	}
	b.counters.folded.Add(uint64(len(f.pending)))
	f.pending = nil
	return nil
}

// foldDecided folds what was decided and is not folded yet. While it does, and after an error, there is no state: it may
// have seen an event that is not counted.
func (w *work) foldDecided() error {
	f := w.folded
	w.folded = nil
	for ; w.applied < len(w.decided); w.applied++ {
		if err := f.foldEvent(&w.decided[w.applied], f.version+uint64(w.applied)+1); err != nil {
			return err
		}
	}
	w.folded = f
	return nil
}

// committed records that the events that were decided are in the log, the last of them at a position.
func (w *work) committed(last eventstore.Position) {
	w.version += uint64(len(w.decided))
	w.last = last
	w.pending = w.decided[w.applied:]
	w.applied = 0
}

// What a read finds beyond a state that cannot be folded onto it.
var (
	// errRewound: an event has come that stands before some that are folded.
	errRewound = errors.New("an event stands before what was folded")
	// errBranched: which events count is only known from all of them.
	errBranched = errors.New("the stream has branches")
)

// readOn brings the state up to what is durable, and returns how many events it has folded for that. Where it cannot be
// done onto what is folded, it begins anew with a state that fresh returns, and says so. After an error the state is of no use.
func (f *folded) readOn(ctx context.Context, from streamReader, fresh func() instance) (events uint64, rewound bool, err error) {
	before := f.version
	err = f.catchUp(ctx, from)
	if errors.Is(err, errRewound) {
		before, rewound = 0, true
		f.begin(fresh())
		err = f.catchUp(ctx, from)
	}
	if errors.Is(err, errBranched) {
		before = 0
		f.begin(fresh())
		err = f.foldBranch(ctx, from)
	}
	return f.version - before, rewound, err
}

// begin takes a state without events in place of the one there is.
func (f *folded) begin(state instance) {
	*f = folded{stream: f.stream, state: state, site: f.site, born: f.born}
}

// catchUp folds what the log has of the stream beyond the state. It begins to read with the last event that is folded: where
// another stands in its place, one has come that belongs before it.
func (f *folded) catchUp(ctx context.Context, from streamReader) error {
	joined := f.version == 0
	for r, err := range from.Read(ctx, f.stream, max(f.version, 1)) {
		if err != nil {
			return fmt.Errorf("load stream %s: %w", f.stream, err)
		}
		if joined {
			if err := f.foldRecorded(&r); err != nil {
				return err
			}
			continue
		}
		if r.Position != f.last {
			return errRewound
		}
		// Of events that this process appended it did not know the dots.
		f.context = cover(f.context, r.Dot)
		joined = true
	}
	if !joined {
		return errRewound
	}
	return nil
}

// foldRecorded folds the next event of the stream as it was read from the log.
func (f *folded) foldRecorded(r *eventstore.Recorded) error {
	knowing := knowsAll(r, f.context, f.version)
	if (f.branch || !knowing) && f.state.resolver().Branchwise() {
		return errBranched
	}
	if f.ofOneLog(r) && r.Version != f.version+1 {
		return &AggregateError{
			Stream: f.stream, Version: r.Version,
			Err: fmt.Errorf("follows version %d: %w", f.version, eventstore.ErrCorrupt),
		}
	}
	void, err := f.state.fold(r, knowing)
	if err != nil {
		return &AggregateError{Stream: f.stream, Version: r.Version, Err: err}
	}
	if void != "" {
		f.void = append(f.void, r.Dot)
	}
	f.count(r)
	return nil
}

// ofOneLog reports whether an event is of the log that all before it are of, which numbers them without a gap.
func (f *folded) ofOneLog(r *eventstore.Recorded) bool {
	return len(f.context) == 0 || len(f.context) == 1 && f.context[0].Log == r.Dot.Log
}

// count records that an event is folded, or void.
func (f *folded) count(r *eventstore.Recorded) {
	f.version++
	f.last = r.Position
	f.context = cover(f.context, r.Dot)
}

// foldBranch folds the branch of a stream that counts. REQUIRES: nothing is folded.
func (f *folded) foldBranch(ctx context.Context, from streamReader) error {
	var events []eventstore.Recorded
	for r, err := range from.Read(ctx, f.stream, 1) {
		if err != nil {
			return fmt.Errorf("load stream %s: %w", f.stream, err)
		}
		events = append(events, r)
	}
	b := branchOf(f.state.resolver(), events)
	for i := range events {
		r := &events[i]
		if b.void[i] != "" {
			f.void = append(f.void, r.Dot)
		} else if _, err := f.state.fold(r, true); err != nil {
			return &AggregateError{Stream: f.stream, Version: r.Version, Err: err}
		}
		f.count(r)
	}
	f.branch, f.open = true, b.open
	return nil
}

// foldEvent folds an event that this process has just encoded. It says nothing of the version.
func (f *folded) foldEvent(e *eventstore.Event, version uint64) error {
	r := eventstore.Recorded{Stream: f.stream, Version: version, Event: *e}
	r.Dot.Log.Site = f.site
	// It was decided on everything that is folded, or else it would not have been appended.
	if _, err := f.state.fold(&r, true); err != nil {
		return &AggregateError{Stream: f.stream, Version: version, Err: err}
	}
	return nil
}

// contextAt returns the vector of what was folded, for an append that expects exactly f.version. Of foreign logs it covers
// what was read. Of the store's own log it covers everything that was durable when the decision was made: were there an
// own event of this stream that is not folded, the expectation would not hold.
func (f *folded) contextAt(own eventstore.LogState) eventstore.Vector {
	if f.version == 0 {
		return nil
	}
	return cover(slices.Clone(f.context), eventstore.Dot{Log: own.ID, Seq: own.Seq})
}

// cover extends v, in place where it can, to cover d.
func cover(v eventstore.Vector, d eventstore.Dot) eventstore.Vector {
	for i := range v {
		if v[i].Log == d.Log {
			v[i].Seq = max(v[i].Seq, d.Seq)
			return v
		}
	}
	return v.With(d)
}

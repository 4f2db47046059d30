package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tributary-es/tributary/eventstore"
)

var subscribeTests = []test{
	{"catches up, then follows", func(f *fixture) {
		interleave(f, 5)
		f.reopen()
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{})
		versions := map[eventstore.StreamID]uint64{}
		var seen uint64
		for range 3 {
			for seen < f.head().Durable.LSN {
				chunk := f.next(sub)
				checkDense(f, seen, chunk.Events, versions)
				seen += uint64(len(chunk.Events))
				f.equal("position", chunk.Position, at(seen))
				f.equal("seq", chunk.Seq, seen)
			}
			f.mustAppend(one(order, eventstore.Any, 4))
		}
	}},

	{"up to date", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 3))
		sub := f.subscribe(at(1), eventstore.Filter{})
		chunk := f.next(sub)
		f.equal("events", len(chunk.Events), 2)
		f.equal("position", chunk.Position, at(3))
		f.equal("durable", chunk.Durable, at(3))
	}},

	{"chunks hold whole batches", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 2))
		f.mustAppend(one(order, eventstore.Any, 7))
		f.mustAppend(one(order, eventstore.Any, 2))
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{MaxChunk: 3})
		var sizes []int
		for n := 0; n < 11; {
			chunk := f.next(sub)
			sizes = append(sizes, len(chunk.Events))
			n += len(chunk.Events)
		}
		f.equal("chunks", sizes, []int{9, 2})
	}},

	{"same live and from disk", func(f *fixture) {
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{Chain: true})
		r := one(order, eventstore.Any, 3)
		r.ID = "a"
		r.Metadata = eventstore.Metadata{Causation: "c", Actor: "clerk"}
		r.Appends[0].Events[1].Tags = []string{"b:1", "a:1"}
		r.Appends[0].Events[2].Payload = nil
		f.mustAppend(r)
		f.mustAppend(eventstore.Request{ID: "empty"})
		var live []eventstore.Recorded
		for len(live) < 4 {
			live = append(live, f.next(sub).Events...)
		}
		f.equal("read", f.all(eventstore.Position{}, eventstore.Filter{Chain: true}), live)
		f.reopen()
		f.equal("read after reopening", f.all(eventstore.Position{}, eventstore.Filter{Chain: true}), live)
		again := f.subscribe(eventstore.Position{}, eventstore.Filter{})
		for i := range live {
			live[i].Chain = eventstore.Hash{}
		}
		f.equal("subscribed after reopening", f.next(again).Events, live)
	}},

	{"filtered, and the cursor moves on", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 2))
		f.mustAppend(one(stock, eventstore.Any, 1))
		f.mustAppend(one(order, eventstore.Any, 3))
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{Categories: []string{"inventory"}})
		var got []uint64
		var chunk eventstore.Chunk
		for chunk.Position != at(6) {
			chunk = f.next(sub)
			for _, e := range chunk.Events {
				got = append(got, e.Position.LSN)
			}
		}
		f.equal("events", got, []uint64{3})
		f.mustAppend(one(order, eventstore.Any, 1))
		chunk = f.next(sub)
		f.equal("events", len(chunk.Events), 0)
		f.equal("position", chunk.Position, at(7))
	}},

	{"no gap under concurrent writers", noGap},

	{"slow subscriber does not hold the writer", func(f *fixture) {
		slow := f.subscribe(eventstore.Position{}, eventstore.Filter{MaxChunk: 10})
		payload := make([]byte, 256<<10)
		for range 100 { // more than any store would keep in memory for it
			r := one(order, eventstore.Any, 1)
			r.Appends[0].Events[0].Payload = payload
			f.mustAppend(r)
		}
		versions := map[eventstore.StreamID]uint64{}
		for seen := uint64(0); seen < 100; {
			chunk := f.next(slow)
			checkDense(f, seen, chunk.Events, versions)
			seen = chunk.Position.LSN
		}
	}},

	{"context ends the wait", func(f *fixture) {
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{})
		ctx, cancel := context.WithCancel(f.ctx)
		ended := make(chan error)
		go func() {
			_, err := sub.Next(ctx)
			ended <- err
		}()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			f.Fatalf("next: %v, want %v", err, context.Canceled)
		}
		f.mustAppend(one(order, eventstore.Any, 1))
		f.equal("events after a cancelled wait", len(f.next(sub).Events), 1)
	}},

	{"closed subscription", func(f *fixture) {
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{})
		ended := make(chan error)
		go func() {
			_, err := sub.Next(f.ctx)
			ended <- err
		}()
		sub.Close()
		sub.Close()
		if err := <-ended; !errors.Is(err, eventstore.ErrClosed) {
			f.Fatalf("next: %v, want %v", err, eventstore.ErrClosed)
		}
	}},
}

// noGap shows S8, and S5 for subscribers.
func noGap(f *fixture) {
	const writers, appends, readers = 8, 60, 4
	var want atomic.Uint64 // the head once all writers are done
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range appends {
				r := one(eventstore.Stream("order", fmt.Sprint(w)), eventstore.Any, 1+i%3)
				if i%5 == 0 {
					r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: stock, Events: events("inventory.changed.v1", 2)})
				}
				if _, err := f.store.Append(f.ctx, r); err != nil {
					f.Errorf("append: %v", err)
				}
			}
		})
	}
	total := uint64(writers * (appends/3*6 + appends/5*2))
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	for r := range readers {
		reading.Go(func() {
			sub, err := f.store.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{MaxChunk: 1 + r*30})
			if err != nil {
				f.Errorf("subscribe: %v", err)
				return
			}
			defer sub.Close()
			versions := map[eventstore.StreamID]uint64{}
			for seen := uint64(0); seen < total; {
				chunk, err := sub.Next(ctx)
				if err != nil {
					f.Errorf("next after %d of %d events: %v", seen, total, err)
					return
				}
				if chunk.Position.Compare(chunk.Durable) > 0 {
					f.Errorf("chunk up to %s, durable is %s", chunk.Position, chunk.Durable)
				}
				if err := dense(seen, chunk, versions); err != nil {
					f.Error(err)
					return
				}
				seen = chunk.Position.LSN
			}
		})
	}
	writing.Wait()
	want.Store(f.head().Durable.LSN)
	reading.Wait()
	f.equal("head", want.Load(), total)
}

// dense is checkDense for goroutines, which must not end the test themselves.
func dense(after uint64, chunk eventstore.Chunk, versions map[eventstore.StreamID]uint64) error {
	for i := range chunk.Events {
		e := &chunk.Events[i]
		if e.Dot.Seq != after+uint64(i)+1 || e.Position.LSN != e.Dot.Seq || e.Version != versions[e.Stream]+1 {
			return fmt.Errorf("event %d after %d is at %s, seq %d, version %d after %d", i, after, e.Position, e.Dot.Seq, e.Version, versions[e.Stream])
		}
		versions[e.Stream] = e.Version
	}
	if n := len(chunk.Events); n == 0 || !chunk.Events[n-1].EndsBatch() || chunk.Events[0].Dot.Seq != chunk.Events[0].Batch.FirstSeq {
		return fmt.Errorf("chunk of %d events up to %s is not of whole batches", n, chunk.Position)
	}
	return nil
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// answers collects what is called for requests of one Enqueue.
type answers struct {
	f   *fixture
	all sync.WaitGroup

	mu  sync.Mutex // guards got
	got []*eventstore.Answer
}

// enqueue enqueues requests; each is to be answered once.
func (f *fixture) enqueue(ctx context.Context, requests ...eventstore.Request) *answers {
	f.Helper()
	a := &answers{f: f, got: make([]*eventstore.Answer, len(requests))}
	a.all.Add(len(requests))
	eventstore.Enqueue(ctx, f.store, requests, func(i int, answer eventstore.Answer) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.got[i] != nil {
			f.Errorf("request %d is answered twice", i)
			return
		}
		a.got[i] = &answer
		a.all.Done()
	})
	return a
}

// wait returns all answers.
func (a *answers) wait() []*eventstore.Answer {
	a.f.Helper()
	answered := make(chan struct{})
	go func() {
		a.all.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(patience):
		a.f.Fatalf("not every request is answered after %s", patience)
	}
	return a.got
}

var enqueueTests = []test{
	// Invariant A3.
	{"streams keep their order", func(f *fixture) {
		const calls, each, streams = 20, 50, 3
		var all []*answers
		versions := [streams]uint64{}
		refused := 0 // appends to stream 1 from here on
		for call := range calls {
			var requests []eventstore.Request
			for i := range each {
				s := i % streams
				r := one(eventstore.Stream("order", fmt.Sprint(s)), eventstore.Exactly(versions[s]), 1)
				r.ID = fmt.Sprint(call, "-", i)
				if call == calls/2 && i == streams+1 { // nothing that comes after it on its stream meets its expectation
					r.Appends[0].Expect, refused = eventstore.Exactly(7000), int(versions[s])
				}
				versions[s]++
				requests = append(requests, r)
			}
			all = append(all, f.enqueue(f.ctx, requests...))
		}
		seen := [streams]uint64{}
		for call, a := range all {
			for i, answer := range a.wait() {
				s := i % streams
				if s == 1 && (call > calls/2 || call == calls/2 && i > streams) {
					var conflict *eventstore.ConflictError
					if !errors.As(answer.Err, &conflict) || conflict.Conflicts[0].Got != uint64(refused) {
						f.Fatalf("request %d-%d after the refused one: %+v", call, i, answer)
					}
					continue
				}
				seen[s]++
				if answer.Err != nil || answer.Receipt.Streams[0].Last != seen[s] {
					f.Fatalf("request %d-%d: %+v, want version %d", call, i, answer, seen[s])
				}
			}
		}
		f.equal("version of the stream with the refused request", f.version(eventstore.Stream("order", "1")), uint64(refused))
		for s, v := range seen {
			f.equal("events of a stream", len(f.stream(eventstore.Stream("order", fmt.Sprint(s)), 1)), int(v))
		}
	}},

	{"each gets what Append would say", func(f *fixture) {
		known := one(order, eventstore.NoStream, 2)
		known.ID = "known"
		f.mustAppend(known)
		twice := func() eventstore.Request {
			r := one(stock, eventstore.Any, 1)
			r.ID = "twice"
			return r
		}
		again := one(order, eventstore.NoStream, 2)
		again.ID = "known"
		reused := one(order, eventstore.Any, 3)
		reused.ID = "known"
		got := f.enqueue(f.ctx, twice(), again, reused, eventstore.Request{}, one(order, eventstore.NoStream, 1), twice(), one(order, eventstore.Exactly(2), 1)).wait()
		for i, want := range []error{nil, nil, eventstore.ErrIDReused, eventstore.ErrInvalid, eventstore.ErrConflict, nil, nil} {
			if !errors.Is(got[i].Err, want) || want == nil && got[i].Err != nil {
				f.Errorf("request %d: %v, want %v", i, got[i].Err, want)
			}
		}
		f.equal("first of an id", got[0].Receipt.Duplicate, false)
		f.equal("an id of before", got[1].Receipt.Duplicate, true)
		f.equal("second of an id", got[5].Receipt.Duplicate, true)
		f.equal("place of the second of an id", got[5].Receipt.Position, got[0].Receipt.Position)
		f.equal("durable", f.head().Durable, at(4))
	}},

	{"none at all", func(f *fixture) { f.enqueue(f.ctx).wait() }},

	{"a context that has ended", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		for _, a := range f.enqueue(ctx, one(order, eventstore.Any, 1), one(stock, eventstore.Any, 1)).wait() {
			if !errors.Is(a.Err, context.Canceled) {
				f.Errorf("%v, want %v", a.Err, context.Canceled)
			}
		}
		f.equal("durable", f.head().Durable, at(0))
	}},

	{"beside closing", func(f *fixture) {
		var all []*answers
		for call := range 20 {
			if call == 10 {
				if err := f.store.Close(); err != nil {
					f.Fatalf("close: %v", err)
				}
			}
			all = append(all, f.enqueue(f.ctx, one(order, eventstore.Any, 1), one(stock, eventstore.Any, 1)))
		}
		for call, a := range all {
			for _, answer := range a.wait() {
				if (answer.Err == nil) != (call < 10) || call >= 10 && !errors.Is(answer.Err, eventstore.ErrClosed) {
					f.Errorf("call %d, of which 10 and later came after the end: %v", call, answer.Err)
				}
			}
		}
	}},
}

package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

var closeTests = []test{
	{"twice", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 1))
		for range 2 {
			if err := f.store.Close(); err != nil {
				f.Fatalf("close: %v", err)
			}
		}
	}},

	{"everything else says so", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 1))
		sub := f.subscribe(at(1), eventstore.Filter{})
		if err := f.store.Close(); err != nil {
			f.Fatalf("close: %v", err)
		}
		_, appending := f.store.Append(f.ctx, one(order, eventstore.Any, 1))
		_, _, receipt := f.store.Receipt(f.ctx, "", "a")
		_, log := f.store.Log(f.ctx)
		_, version := f.store.Version(f.ctx, order)
		_, subscribing := f.store.Subscribe(f.ctx, at(1), eventstore.Filter{})
		_, next := sub.Next(f.ctx)
		first := func(seq func(func(eventstore.Recorded, error) bool)) error {
			for _, err := range seq {
				return err
			}
			return nil
		}
		for name, err := range map[string]error{
			"Append": appending, "Receipt": receipt, "Log": log, "Version": version, "Subscribe": subscribing, "Next": next,
			"Read":          first(f.store.Read(f.ctx, order, 1)),
			"ReadBackwards": first(f.store.ReadBackwards(f.ctx, order, 0)),
			"ReadAll":       first(f.store.ReadAll(f.ctx, eventstore.Position{}, eventstore.Filter{})),
		} {
			if !errors.Is(err, eventstore.ErrClosed) {
				f.Errorf("%s of a closed store: %v, want %v", name, err, eventstore.ErrClosed)
			}
		}
	}},

	{"wakes those who wait", func(f *fixture) {
		sub := f.subscribe(eventstore.Position{}, eventstore.Filter{})
		ended := make(chan error)
		go func() {
			_, err := sub.Next(f.ctx)
			ended <- err
		}()
		if err := f.store.Close(); err != nil {
			f.Fatalf("close: %v", err)
		}
		if err := <-ended; !errors.Is(err, eventstore.ErrClosed) {
			f.Fatalf("next: %v, want %v", err, eventstore.ErrClosed)
		}
	}},

	{"while reading", func(f *fixture) {
		interleave(f, 20)
		var last error
		for _, err := range f.store.ReadAll(f.ctx, eventstore.Position{}, eventstore.Filter{}) {
			if last = err; err == nil {
				if err := f.store.Close(); err != nil {
					f.Fatalf("close: %v", err)
				}
			}
		}
		if last != nil && !errors.Is(last, eventstore.ErrClosed) {
			f.Fatalf("read: %v, want none or %v", last, eventstore.ErrClosed)
		}
	}},

	{"answers what is under way", func(f *fixture) {
		const writers = 8
		var wg sync.WaitGroup
		acked := make([]uint64, writers)
		started := make(chan struct{}, writers)
		for w := range writers {
			wg.Go(func() {
				s := eventstore.Stream("order", fmt.Sprint(w))
				for {
					receipt, err := f.store.Append(f.ctx, one(s, eventstore.Any, 1))
					if errors.Is(err, eventstore.ErrClosed) {
						return
					}
					if err != nil {
						f.Errorf("append: %v", err)
						return
					}
					acked[w] = receipt.Streams[0].Last
					if acked[w] == 1 {
						started <- struct{}{}
					}
				}
			})
		}
		for range writers {
			<-started
		}
		if err := f.store.Close(); err != nil {
			f.Fatalf("close: %v", err)
		}
		wg.Wait()
		if f.o.Reopen == nil {
			return
		}
		f.reopen()
		for w, v := range acked {
			s := eventstore.Stream("order", fmt.Sprint(w))
			f.equal("version of "+s.String(), f.version(s), v)
			f.equal("events of "+s.String(), len(f.stream(s, 1)), int(v))
		}
	}},
}

package storetest

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// varied appends events of two categories, three types and many tags: every event has a tag of its own, every 10th "ten",
// every 100th "hundred".
func varied(f *fixture, count int) {
	f.Helper()
	for i := 0; i < count; {
		var r eventstore.Request
		category := []string{"a", "b"}[i/7%2]
		events := make([]eventstore.Event, min(7, count-i))
		for j := range events {
			i++
			e := eventstore.Event{Type: fmt.Sprintf("t%d.v1", i%3), Payload: fmt.Append(nil, i), Tags: []string{fmt.Sprint("n:", i)}}
			if i%10 == 0 {
				e.Tags = append(e.Tags, "ten")
			}
			if i%100 == 0 {
				e.Tags = append(e.Tags, "hundred")
			}
			events[j] = e
		}
		r.Appends = []eventstore.StreamAppend{{Stream: eventstore.Stream(category, fmt.Sprint(i%5)), Events: events}}
		f.mustAppend(r)
	}
}

var filterTests = []test{
	{"what a filter lets through, forwards and backwards", func(f *fixture) {
		const count = 1500
		varied(f, count)
		filters := []eventstore.Filter{
			{},
			{Query: eventstore.Tagged("n:17")},
			{Query: eventstore.Tagged("ten")},
			{Query: eventstore.Tagged("hundred")},
			{Query: eventstore.Tagged("hundred", "ten")},
			{Query: eventstore.Tagged("hundred", "n:1200")},
			{Query: eventstore.Tagged("hundred", "n:17")},
			{Query: eventstore.Tagged("none")},
			{Query: eventstore.Query{{Tags: []string{"hundred"}}, {Tags: []string{"n:17"}}, {Types: []string{"t1.v1"}, Tags: []string{"ten"}}}},
			{Categories: []string{"a"}},
			{Categories: []string{"a", "b"}},
			{Categories: []string{"c"}},
			{Types: []string{"t0.v1"}},
			{Types: []string{"t0.v1", "t2.v1"}, Categories: []string{"b"}},
			{Types: []string{"t0.v1"}, Query: eventstore.Tagged("ten")},
			{Tenant: eventstore.DefaultTenant, Query: eventstore.Tagged("ten")},
			{Tenant: "acme", Query: eventstore.Tagged("ten")},
			{Tenant: "acme"},
		}
		for range 2 {
			everything := f.all(at(0), eventstore.Filter{})
			f.equal("events", len(everything), count)
			for i, filter := range filters {
				for _, from := range []uint64{0, 1, 17, 100, 1200, count} {
					var want []eventstore.Recorded
					for _, e := range everything[from:] {
						if filter.Matches(&e) {
							want = append(want, e)
						}
					}
					name := fmt.Sprintf("filter %d after %d", i, from)
					f.equal(name, f.all(at(from), filter), want)

					want = nil
					end := from
					if from == 0 {
						end = count + 1
					}
					for _, e := range slices.Backward(everything[:end-1]) {
						if filter.Matches(&e) {
							want = append(want, e)
						}
					}
					f.equal(name+" backwards", f.allBackwards(at(from), filter), want)
				}
			}
			f.reopen()
		}
	}},

	{"a reader that has enough may leave", func(f *fixture) {
		varied(f, 500)
		for _, filter := range []eventstore.Filter{{}, {Query: eventstore.Tagged("ten")}, {Types: []string{"t0.v1"}}} {
			for _, events := range []iter.Seq2[eventstore.Recorded, error]{
				f.store.ReadAll(f.ctx, at(0), filter), f.store.ReadAllBackwards(f.ctx, at(0), filter),
			} {
				n := 0
				for _, err := range events {
					if err != nil {
						f.Fatal(err)
					}
					if n++; n == 3 {
						break
					}
				}
				f.equal("events taken", n, 3)
			}
		}
	}},

	{"backwards from where there is nothing", func(f *fixture) {
		f.equal("empty log", len(f.allBackwards(at(0), eventstore.Filter{})), 0)
		varied(f, 3)
		for _, before := range []eventstore.Position{at(4), {Incarnation: 9, LSN: 1}} {
			if _, err := collect(f.store.ReadAllBackwards(f.ctx, before, eventstore.Filter{})); !errors.Is(err, eventstore.ErrWrongIncarnation) {
				f.Errorf("before %s: %v, want ErrWrongIncarnation", before, err)
			}
		}
		if _, err := collect(f.store.ReadAllBackwards(f.ctx, at(0), eventstore.Filter{Chain: true})); !errors.Is(err, eventstore.ErrUnsupported) {
			f.Errorf("chain backwards: %v, want ErrUnsupported", err)
		}
	}},
}

func (f *fixture) allBackwards(before eventstore.Position, filter eventstore.Filter) []eventstore.Recorded {
	f.Helper()
	got, err := collect(f.store.ReadAllBackwards(f.ctx, before, filter))
	if err != nil {
		f.Fatalf("read backwards before %s: %v", before, err)
	}
	return got
}

// collect returns what is yielded up to the first error.
func collect(events iter.Seq2[eventstore.Recorded, error]) (all []eventstore.Recorded, err error) {
	for e, err := range events {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

var readTests = []test{
	{"stream from a version", func(f *fixture) {
		interleave(f, 10)
		for round := range 2 {
			whole := f.stream(order, 1)
			f.equal("events", len(whole), 10)
			for i, e := range whole {
				f.equal("version", e.Version, uint64(i)+1)
			}
			f.equal("from 0", f.stream(order, 0), whole)
			for _, from := range []uint64{2, 5, 10} {
				f.equal(fmt.Sprintf("from %d in round %d", from, round), f.stream(order, from), whole[from-1:])
			}
			f.equal("from beyond the end", len(f.stream(order, 11)), 0)
			f.reopen()
		}
	}},

	{"stream backwards", func(f *fixture) {
		interleave(f, 10)
		for range 2 {
			whole := f.stream(order, 1)
			slices.Reverse(whole)
			f.equal("from the last", f.backwards(order, 0), whole)
			f.equal("from beyond the end", f.backwards(order, 99), whole)
			for _, from := range []uint64{1, 4, 10} {
				f.equal(fmt.Sprintf("from %d", from), f.backwards(order, from), whole[10-from:])
			}
			f.equal("no such stream", len(f.backwards(eventstore.Stream("order", "none"), 0)), 0)
			f.reopen()
		}
	}},

	{"neighbours in name are other streams", func(f *fixture) {
		names := []string{"1", "10", "1/", "1 0", "!", "0", "2"}
		for i, name := range names {
			f.mustAppend(one(eventstore.Stream("order", name), eventstore.NoStream, i+1))
			f.mustAppend(one(eventstore.Stream("order.x", name), eventstore.NoStream, 1))
		}
		for range 2 {
			for i, name := range names {
				f.equal("events of "+name, len(f.stream(eventstore.Stream("order", name), 1)), i+1)
				f.equal("version of "+name, f.version(eventstore.Stream("order", name)), uint64(i)+1)
			}
			f.equal("stream that is not there", f.version(eventstore.Stream("order", "1/0")), uint64(0))
			f.reopen()
		}
	}},

	{"stream id that is wrong", func(f *fixture) {
		wrong := eventstore.StreamID{Tenant: "default", Category: "order", ID: "a\x00b"}
		if _, err := f.store.Version(f.ctx, wrong); !errors.Is(err, eventstore.ErrInvalid) {
			f.Errorf("version: %v, want %v", err, eventstore.ErrInvalid)
		}
		for _, err := range f.store.Read(f.ctx, wrong, 1) {
			if !errors.Is(err, eventstore.ErrInvalid) {
				f.Errorf("read: %v, want %v", err, eventstore.ErrInvalid)
			}
		}
	}},

	{"log after a position", func(f *fixture) {
		interleave(f, 10)
		whole := f.all(eventstore.Position{}, eventstore.Filter{})
		f.equal("events", len(whole), 20)
		checkDense(f, 0, whole, map[eventstore.StreamID]uint64{})
		for after := range uint64(21) {
			f.equal(fmt.Sprintf("events after %d", after), len(f.all(at(after), eventstore.Filter{})), 20-int(after))
		}
		f.equal("events after 13", f.all(at(13), eventstore.Filter{}), whole[13:])
	}},

	{"filters", func(f *fixture) {
		acme := eventstore.StreamID{Tenant: "acme", Category: "order", ID: "1"}
		f.mustAppend(one(order, eventstore.Any, 2))
		f.mustAppend(one(stock, eventstore.Any, 2))
		r := one(acme, eventstore.Any, 1)
		r.Tenant = "acme"
		f.mustAppend(r)
		r = one(order, eventstore.Any, 1)
		r.Appends[0].Events[0].Type = "order.shipped.v1"
		f.mustAppend(r)
		cases := []struct {
			name   string
			filter eventstore.Filter
			want   []uint64
		}{
			{"nothing", eventstore.Filter{}, []uint64{1, 2, 3, 4, 5, 6}},
			{"tenant", eventstore.Filter{Tenant: "acme"}, []uint64{5}},
			{"category", eventstore.Filter{Categories: []string{"inventory"}}, []uint64{3, 4}},
			{"categories", eventstore.Filter{Categories: []string{"inventory", "order"}}, []uint64{1, 2, 3, 4, 5, 6}},
			{"type", eventstore.Filter{Types: []string{"order.shipped.v1", "none.v1"}}, []uint64{6}},
			{"all of them", eventstore.Filter{Tenant: "default", Categories: []string{"order"}, Types: []string{"order.changed.v1"}}, []uint64{1, 2}},
			{"none that matches", eventstore.Filter{Tenant: "nobody"}, nil},
		}
		for _, c := range cases {
			var got []uint64
			for _, e := range f.all(eventstore.Position{}, c.filter) {
				got = append(got, e.Position.LSN)
			}
			f.equal(c.name, got, c.want)
		}
	}},

	{"positions that are not of this log", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 3))
		for _, p := range []eventstore.Position{{Incarnation: 2, LSN: 1}, {Incarnation: 0, LSN: 1}, at(4), at(1 << 62)} {
			calls := 0
			for _, err := range f.store.ReadAll(f.ctx, p, eventstore.Filter{}) {
				calls++
				if !errors.Is(err, eventstore.ErrWrongIncarnation) {
					f.Errorf("read all after %s: %v, want %v", p, err, eventstore.ErrWrongIncarnation)
				}
			}
			f.equal("answers", calls, 1)
			if _, err := f.store.Subscribe(f.ctx, p, eventstore.Filter{}); !errors.Is(err, eventstore.ErrWrongIncarnation) {
				f.Errorf("subscribe after %s: %v, want %v", p, err, eventstore.ErrWrongIncarnation)
			}
		}
		f.equal("events after the head", len(f.all(at(3), eventstore.Filter{})), 0)
	}},

	{"reading ends at what was durable when it began", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 3))
		n := 0
		for _, err := range f.store.ReadAll(f.ctx, eventstore.Position{}, eventstore.Filter{}) {
			if err != nil {
				f.Fatal(err)
			}
			n++
			f.mustAppend(one(order, eventstore.Any, 1))
		}
		f.equal("events of the log", n, 3)
		n = 0
		for _, err := range f.store.Read(f.ctx, order, 1) {
			if err != nil {
				f.Fatal(err)
			}
			n++
			f.mustAppend(one(order, eventstore.Any, 1))
		}
		f.equal("events of the stream", n, 6)
	}},

	{"stopping early", func(f *fixture) {
		interleave(f, 10)
		for name, seq := range map[string]iter.Seq2[eventstore.Recorded, error]{
			"ReadAll": f.store.ReadAll(f.ctx, eventstore.Position{}, eventstore.Filter{}),
			"Read":    f.store.Read(f.ctx, order, 1), "ReadBackwards": f.store.ReadBackwards(f.ctx, order, 0),
		} {
			answers := 0
			seq(func(_ eventstore.Recorded, err error) bool {
				if answers++; err != nil {
					f.Errorf("%s: %v", name, err)
				}
				return false
			})
			f.equal("answers of "+name+" to who wants one", answers, 1)
		}
	}},

	{"cancelled context", func(f *fixture) {
		interleave(f, 2)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		for name, seq := range map[string]func(func(eventstore.Recorded, error) bool){
			"ReadAll": f.store.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}),
			"Read":    f.store.Read(ctx, order, 1), "ReadBackwards": f.store.ReadBackwards(ctx, order, 0),
		} {
			answers := 0
			for _, err := range seq {
				answers++
				if !errors.Is(err, context.Canceled) {
					f.Errorf("%s: %v, want %v", name, err, context.Canceled)
				}
			}
			f.equal("answers of "+name, answers, 1)
		}
	}},

	{"events that are kept do not change", func(f *fixture) {
		interleave(f, 50)
		kept := f.all(eventstore.Position{}, eventstore.Filter{})
		interleave(f, 50)
		f.equal("events", f.all(eventstore.Position{}, eventstore.Filter{})[:100], kept)
	}},
}

// interleave appends n events to each of two streams, in turn.
func interleave(f *fixture, n int) {
	f.Helper()
	for range n {
		f.mustAppend(one(order, eventstore.Any, 1))
		f.mustAppend(one(stock, eventstore.Any, 1))
	}
}

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

var asOfTests = []test{
	{"a stream as of every position", streamAsOf},
	{"the log as of every position", func(f *fixture) {
		interleave(f, 10)
		whole := f.all(eventstore.Position{}, eventstore.Filter{})
		var orders []eventstore.Recorded
		for _, e := range whole {
			if e.Stream == order {
				orders = append(orders, e)
			}
		}
		for until := range uint64(21) {
			what := fmt.Sprintf("until %d", until)
			f.equal(what, len(f.all(eventstore.Position{}, eventstore.Filter{Until: at(until)})), int(until))
			f.equal(what+" after 7", len(f.all(at(7), eventstore.Filter{Until: at(until)})), max(0, int(until)-7))
			filtered := f.all(eventstore.Position{}, eventstore.Filter{Until: at(until), Categories: []string{order.Category}})
			f.equal(what+", filtered", len(filtered), len(orders[:(until+1)/2]))
			back := slices.Clone(whole[:until])
			slices.Reverse(back)
			f.equal(what+" backwards", len(f.allBackwards(eventstore.Position{}, eventstore.Filter{Until: at(until)})), len(back))
			f.equal(what+" backwards from 5", len(f.allBackwards(at(5), eventstore.Filter{Until: at(until)})), min(4, int(until)))
		}
		f.equal("events", f.all(at(2), eventstore.Filter{Until: at(6)}), whole[2:6])
	}},

	{"positions that are of no log as of which to read", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 3))
		for _, p := range []eventstore.Position{{Incarnation: 2, LSN: 1}, {Incarnation: 2}, at(4)} {
			for _, err := range f.store.ReadAll(f.ctx, eventstore.Position{}, eventstore.Filter{Until: p}) {
				if !errors.Is(err, eventstore.ErrWrongIncarnation) {
					f.Errorf("read all until %s: %v, want %v", p, err, eventstore.ErrWrongIncarnation)
				}
			}
			if _, err := f.store.VersionAt(f.ctx, order, p); !p.IsZero() && !errors.Is(err, eventstore.ErrWrongIncarnation) {
				f.Errorf("version at %s: %v, want %v", p, err, eventstore.ErrWrongIncarnation)
			}
		}
		if _, err := f.store.Subscribe(f.ctx, eventstore.Position{}, eventstore.Filter{Until: at(2)}); !errors.Is(err, eventstore.ErrUnsupported) {
			f.Errorf("subscribe with an end: %v, want %v", err, eventstore.ErrUnsupported)
		}
	}},

	{"the position of a time", positionOfTime},
}

// streamAsOf shows G6 for streams.
func streamAsOf(f *fixture) {
	interleave(f, 6)
	r := one(order, eventstore.Any, 3)
	r.Appends = append(r.Appends, one(stock, eventstore.Any, 2).Appends...)
	f.mustAppend(r)
	interleave(f, 6)
	for range 2 {
		whole := f.all(eventstore.Position{}, eventstore.Filter{})
		want := map[eventstore.StreamID]uint64{order: 0, stock: 0}
		for lsn := range uint64(len(whole)) + 1 {
			if lsn > 0 {
				want[whole[lsn-1].Stream]++
			}
			for s, v := range want {
				f.equal(fmt.Sprintf("version of %s at lsn %d", s, lsn), f.versionAt(s, at(lsn)), v)
			}
		}
		f.equal("version of a stream that is not there", f.versionAt(eventstore.Stream("order", "none"), at(5)), uint64(0))
		f.equal("version before the log", f.versionAt(order, eventstore.Position{}), uint64(0))
		f.reopen()
	}
}

// positionOfTime shows G6 for times.
func positionOfTime(f *fixture) {
	f.equal("in an empty log", f.positionAt(time.Now()), at(0))
	for i := range 12 {
		f.mustAppend(one(order, eventstore.Any, 1+i%4))
		last := f.head().Durable
		for e := f.all(at(last.LSN-1), eventstore.Filter{}); !time.Now().After(e[0].Time().Add(2 * time.Millisecond)); {
			time.Sleep(time.Millisecond)
		}
	}
	for range 2 {
		whole := f.all(eventstore.Position{}, eventstore.Filter{})
		for i := range whole {
			for _, d := range []time.Duration{-time.Millisecond, 0, time.Millisecond - 1, time.Millisecond} {
				t, want := whole[i].Time().Add(d), at(0)
				for _, e := range whole {
					if !e.Time().After(t) && e.EndsBatch() {
						want = e.Position
					}
				}
				f.equal(fmt.Sprintf("position at %s, %s after event %d", t, d, i+1), f.positionAt(t), want)
			}
		}
		f.equal("before the log", f.positionAt(time.Unix(-1e9, 0)), at(0))
		f.equal("nothing is read as of then", len(f.all(eventstore.Position{}, eventstore.Filter{Until: at(0)})), 0)
		f.equal("in the future", f.positionAt(time.Now().Add(time.Hour)), f.head().Durable)
		f.reopen()
	}
}

func (f *fixture) versionAt(s eventstore.StreamID, p eventstore.Position) uint64 {
	f.Helper()
	v, err := f.store.VersionAt(f.ctx, s, p)
	if err != nil {
		f.Fatalf("version of %s at %s: %v", s, p, err)
	}
	return v
}

func (f *fixture) positionAt(t time.Time) eventstore.Position {
	f.Helper()
	p, err := f.store.PositionAt(f.ctx, t)
	if err != nil {
		f.Fatalf("position at %s: %v", t, err)
	}
	return p
}

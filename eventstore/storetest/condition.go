package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// tagged returns a request for an event of a type with tags, of a stream of its own.
func tagged(stream, eventType string, tags ...string) eventstore.Request {
	return eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("course", stream), Events: []eventstore.Event{{Type: eventType, Tags: tags, Payload: []byte(stream)}},
	}}}
}

func guarded(r eventstore.Request, after eventstore.Position, q eventstore.Query) eventstore.Request {
	r.Condition = &eventstore.Condition{Query: q, After: after}
	return r
}

// conflict returns the conflict that a request must meet.
func (f *fixture) conflict(r eventstore.Request) *eventstore.ConflictError {
	f.Helper()
	_, err := f.store.Append(f.ctx, r)
	var conflict *eventstore.ConflictError
	if !errors.As(err, &conflict) {
		f.Fatalf("append: %v, want a conflict", err)
	}
	return conflict
}

var conditionTests = []test{
	{"a condition holds until an event matches", func(f *fixture) {
		q := eventstore.Tagged("student:1")
		f.mustAppend(guarded(tagged("a", "course.joined.v1", "student:1", "course:a"), at(0), q))
		f.mustAppend(tagged("b", "course.joined.v1", "student:2", "course:a"))
		for range 2 {
			c := f.conflict(guarded(tagged("c", "course.joined.v1", "student:1"), at(0), q))
			f.equal("found", c.Condition.Found, at(1))
			f.equal("query", c.Condition.Query, q)
			f.equal("streams in conflict", len(c.Conflicts), 0)
			f.reopen()
		}
		f.mustAppend(guarded(tagged("c", "course.joined.v1", "student:1"), at(1), q))
		f.equal("found after another", f.conflict(guarded(tagged("c", "x.v1"), at(1), q)).Condition.Found, at(3))
		f.equal("durable", f.head().Durable, at(3))
	}},

	{"items are alternatives, tags of an item go together, types of an item are alternatives", func(f *fixture) {
		f.mustAppend(tagged("a", "t.v1", "x", "y"))
		f.mustAppend(tagged("b", "u.v1", "x"))
		f.mustAppend(tagged("c", "v.v1", "y"))
		cases := []struct {
			q    eventstore.Query
			want uint64 // 0: holds
		}{
			{eventstore.Query{{Tags: []string{"x", "y"}}}, 1},
			{eventstore.Query{{Tags: []string{"y", "x"}}}, 1},
			{eventstore.Query{{Tags: []string{"x", "y"}, Types: []string{"u.v1", "v.v1"}}}, 0},
			{eventstore.Query{{Tags: []string{"x"}, Types: []string{"u.v1", "t.v1"}}}, 2},
			{eventstore.Query{{Types: []string{"u.v1", "t.v1"}}}, 2},
			{eventstore.Query{{Types: []string{"w.v1"}}}, 0},
			{eventstore.Query{{Tags: []string{"z"}}, {Tags: []string{"x", "y"}}}, 1},
			{eventstore.Query{{Tags: []string{"x", "z"}}, {Types: []string{"w.v1"}}}, 0},
			{eventstore.Query{{Tags: []string{"X"}}}, 0},
		}
		for range 2 {
			for _, c := range cases {
				if c.want == 0 {
					continue
				}
				f.equal(c.q.String(), f.conflict(guarded(tagged("d", "w.v1"), at(0), c.q)).Condition.Found, at(c.want))
				f.mustAppend(guarded(tagged("e", "other.v1"), f.head().Durable, c.q))
			}
			f.reopen()
		}
		for _, c := range cases {
			if c.want == 0 {
				f.mustAppend(guarded(tagged("f", "other.v1"), at(0), c.q))
			}
		}
	}},

	{"a condition is of the request's tenant", func(f *fixture) {
		r := tagged("a", "t.v1", "x")
		r.Tenant = "acme"
		r.Appends[0].Stream.Tenant = "acme"
		f.mustAppend(r)
		f.mustAppend(guarded(tagged("a", "t.v1", "x"), at(0), eventstore.Tagged("x")))
		r.Appends[0].Events = []eventstore.Event{{Type: "t.v1"}}
		f.equal("found", f.conflict(guarded(r, at(0), eventstore.Tagged("x"))).Condition.Found, at(1))
	}},

	{"every check that failed is reported", func(f *fixture) {
		f.mustAppend(tagged("a", "t.v1", "x"))
		f.mustAppend(tagged("b", "t.v1"))
		r := guarded(tagged("a", "t.v1"), at(0), eventstore.Tagged("x"))
		r.Appends[0].Expect = eventstore.NoStream
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: eventstore.Stream("course", "b"), Expect: eventstore.Exactly(7), Events: []eventstore.Event{{Type: "t.v1"}},
		})
		c := f.conflict(r)
		f.equal("streams", len(c.Conflicts), 2)
		f.equal("found", c.Condition.Found, at(1))
	}},

	{"a repeated request is answered before its condition is judged", func(f *fixture) {
		r := guarded(tagged("a", "t.v1", "x"), at(0), eventstore.Tagged("x"))
		r.ID = "once"
		first := f.mustAppend(r)
		for range 2 {
			again := guarded(tagged("a", "t.v1", "x"), at(0), eventstore.Tagged("x"))
			again.ID = "once"
			got := f.mustAppend(again)
			f.equal("duplicate", got.Duplicate, true)
			f.equal("position", got.Position, first.Position)
			f.reopen()
		}
		other := guarded(tagged("a", "t.v1", "x"), at(0), eventstore.Tagged("y"))
		other.ID = "once"
		if _, err := f.store.Append(f.ctx, other); !errors.Is(err, eventstore.ErrIDReused) {
			f.Fatalf("another condition under the same id: %v, want ErrIDReused", err)
		}
	}},

	{"refusals", func(f *fixture) {
		f.mustAppend(tagged("a", "t.v1", "x"))
		long := make([]string, eventstore.MaxTags+1)
		for i := range long {
			long[i] = fmt.Sprint("tag:", i)
		}
		cases := []struct {
			name string
			c    eventstore.Condition
			want error
		}{
			{"empty query", eventstore.Condition{}, eventstore.ErrInvalid},
			{"empty item", eventstore.Condition{Query: eventstore.Query{{}}}, eventstore.ErrInvalid},
			{"empty tag", eventstore.Condition{Query: eventstore.Tagged("")}, eventstore.ErrInvalid},
			{"many tags", eventstore.Condition{Query: eventstore.Tagged(long...)}, eventstore.ErrTooLarge},
			{"many items", eventstore.Condition{Query: make(eventstore.Query, eventstore.MaxQueryItems+1)}, eventstore.ErrTooLarge},
			{"beyond the head", eventstore.Condition{Query: eventstore.Tagged("y"), After: at(2)}, eventstore.ErrWrongIncarnation},
			{"another incarnation", eventstore.Condition{Query: eventstore.Tagged("y"), After: eventstore.Position{Incarnation: 9, LSN: 1}}, eventstore.ErrWrongIncarnation},
		}
		for _, c := range cases {
			if _, err := f.store.Append(f.ctx, guarded(tagged("b", "t.v1"), c.c.After, c.c.Query)); !errors.Is(err, c.want) {
				f.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		f.equal("durable", f.head().Durable, at(1))
	}},

	{"of those who race, one wins", func(f *fixture) {
		const rounds, racers = 40, 8
		for round := range rounds {
			tag := fmt.Sprint("voucher:", round)
			var wg sync.WaitGroup
			won := make([]error, racers)
			for i := range racers {
				wg.Go(func() {
					_, won[i] = f.store.Append(f.ctx, guarded(tagged(fmt.Sprint(round, "-", i), "voucher.redeemed.v1", tag, "all"), at(0),
						eventstore.Query{{Types: []string{"voucher.redeemed.v1"}, Tags: []string{"all", tag}}}))
				})
			}
			wg.Wait()
			winners := 0
			for _, err := range won {
				if err == nil {
					winners++
				} else if !errors.Is(err, eventstore.ErrConflict) {
					f.Fatalf("append: %v", err)
				}
			}
			f.equal("winners of round "+fmt.Sprint(round), winners, 1)
		}
		f.equal("events", len(f.all(at(0), eventstore.Filter{})), rounds)
	}},
}

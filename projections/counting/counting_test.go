package counting_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
)

func newLog(site string, now *time.Time) *memstore.Store {
	return memstore.New(memstore.Options{
		LogID: eventstore.LogID{Site: site, Incarnation: 1}, Clock: hlc.New(func() time.Time { return *now }),
	})
}

func note(t testing.TB, log *memstore.Store, stream int, context eventstore.Vector) {
	t.Helper()
	_, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("page", fmt.Sprint(stream)), Events: []eventstore.Event{{Type: "page.noted.v1"}}, Context: context,
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

// hear has a log take in up to count more events of another's own, which it has held events of.
func hear(t testing.TB, log, other *memstore.Store, held *uint64, count int) {
	t.Helper()
	state, err := other.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var events []eventstore.Recorded
	for e, err := range other.ReadLog(t.Context(), state.ID, *held) {
		if err != nil {
			t.Fatal(err)
		}
		if events = append(events, e); len(events) == count {
			break
		}
	}
	if len(events) == 0 {
		return
	}
	if _, err := log.Receive(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	*held += uint64(len(events))
}

func logged(t testing.TB, log *memstore.Store) []eventstore.Recorded {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range log.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// droppedLog has dropped the contents of its first events.
type droppedLog struct {
	*memstore.Store
	cut  uint64 // the last lsn of them
	asks int
}

func (d *droppedLog) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range d.Store.Read(ctx, stream, from) {
			if err == nil && e.Position.LSN <= d.cut {
				yield(eventstore.Recorded{}, &eventstore.TruncatedError{First: eventstore.Position{Incarnation: 1, LSN: d.cut + 1}})
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// LastDots implements counting.Dropping.
func (d *droppedLog) LastDots(ctx context.Context, stream eventstore.StreamID, count uint64) (last eventstore.Vector, err error) {
	d.asks++
	for e, err := range d.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			return nil, err
		}
		if e.Stream == stream && count > 0 {
			last, count = last.With(e.Dot), count-1
		}
	}
	return last, nil
}

// TestKnown shows P11: whichever events it is shown, in whatever order and by however many readers, it says of each whether it
// knew all that its stream had before it, also where the beginning of the stream was dropped.
func TestKnown(t *testing.T) {
	concurrent, knew, asked := 0, 0, 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 11))
		now := time.UnixMilli(1000)
		logs := [2]*memstore.Store{newLog("bj", &now), newLog("sh", &now)}
		var held [2]uint64
		for range 80 {
			now = now.Add(time.Duration(r.IntN(3)) * time.Millisecond)
			i := r.IntN(2)
			if r.IntN(3) == 0 {
				hear(t, logs[i], logs[1-i], &held[i], 1+r.IntN(5))
				continue
			}
			var context eventstore.Vector
			if r.IntN(4) == 0 { // who decided had not folded all that its site held
				context = eventstore.Vector{{Log: eventstore.LogID{Site: []string{"sh", "bj"}[i], Incarnation: 1}, Seq: r.Uint64N(held[i] + 1)}}
			}
			note(t, logs[i], r.IntN(4), context)
		}
		log := logs[0]
		events := logged(t, log)
		dropped := &droppedLog{Store: log, cut: r.Uint64N(uint64(len(events)))}
		known := counting.NewKnown(dropped)
		at := 0
		for range 3 * len(events) {
			if r.IntN(20) == 0 {
				at = r.IntN(len(events)) // another reader, or the same one again
			}
			if r.IntN(10) == 0 {
				at++ // it is not shown this one
			}
			if at >= len(events) {
				at = 0
			}
			e := &events[at]
			want := false
			for i := range at {
				want = want || events[i].Stream == e.Stream && !e.Knew(&events[i])
			}
			got, err := known.Concurrent(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("seed %d: the event at %s is concurrent with others before it: %v, want %v", seed, e.Position, got, want)
			}
			if want {
				concurrent++
			} else {
				knew++
			}
			at++
		}
		asked += dropped.asks
	}
	if concurrent == 0 || knew == 0 || asked == 0 {
		t.Errorf("%d events were concurrent and %d were not, %d streams had dropped events: want some of each", concurrent, knew, asked)
	}
}

// TestLongStream shows P11: of a stream that is too long it is not said what counts, unless that is clear without reading it.
func TestLongStream(t *testing.T) {
	now := time.UnixMilli(1000)
	here, there := newLog("bj", &now), newLog("sh", &now)
	for range counting.MaxEvents {
		note(t, here, 1, nil)
	}
	note(t, there, 1, nil)
	now = now.Add(-500 * time.Millisecond)
	var held uint64
	hear(t, here, there, &held, 1)
	events := logged(t, here)
	late := &events[len(events)-1]
	all := false
	s := counting.New(here, counting.Rules{
		AllCount: func(string) bool { return all },
		Void: func(string, []eventstore.Recorded) (map[eventstore.Dot]bool, error) {
			t.Fatal("a stream that is too long is judged")
			return nil, nil
		},
	})
	if _, err := s.Change(t.Context(), late, true); !errors.Is(err, projections.ErrUndecided) {
		t.Errorf("error is %v, want ErrUndecided", err)
	}
	if c, err := s.Change(t.Context(), &events[7], true); err != nil || !c.Appends {
		t.Errorf("of an event that knew all: %+v, %v", c, err)
	}
	all = true
	if c, err := s.Change(t.Context(), late, false); err != nil || !c.Appends {
		t.Errorf("of an event among those that all count: %+v, %v", c, err)
	}
}

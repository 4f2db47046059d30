package conflictview

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Conflicts of a stream that is too long to be judged are told from those that a person has to look at.
func TestLongStreamsAreNotJudged(t *testing.T) {
	for _, c := range []struct {
		events int
		want   commands.Verdict
	}{{maxJudged, commands.NeedsReview}, {maxJudged + 1, NotJudged}} {
		events := make([]eventstore.Recorded, c.events)
		for i := range events {
			events[i].Stream = eventstore.Stream("order", "1")
			events[i].Dot = eventstore.Dot{Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Seq: uint64(i + 1)}
		}
		last := &events[len(events)-1]
		last.Dot = eventstore.Dot{Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Seq: 1} // it knows of none of them
		o := Options{Judge: func(string, []eventstore.Recorded) (commands.Judgement, error) {
			return commands.Judgement{Outcomes: []commands.Outcome{{Event: last.Dot, Verdict: commands.NeedsReview}}}, nil
		}}
		s := newStream(&o, last.Stream)
		for i := range events[:len(events)-1] {
			s.insert(&events[i])
		}
		records, err := s.add(last)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != 1 || records[0].Verdict != string(c.want) {
			t.Errorf("of %d events: %+v, want one conflict that is %s", c.events, records, c.want)
		}
	}
}

// What a site wrote in a stream while it was cut off changes the record of an event of the other site once, however much of it comes.
func TestLongStreamIsWrittenOnceForEachLog(t *testing.T) {
	const events = 3 * maxJudged
	s := newStream(&Options{Judge: func(string, []eventstore.Recorded) (commands.Judgement, error) {
		return commands.Judgement{}, nil
	}}, eventstore.Stream("order", "1"))
	written := 0
	for _, site := range []string{"bj", "sh"} {
		for n := range uint64(events) {
			e := eventstore.Recorded{
				Stream: s.id, HLC: hlc.At(time.UnixMilli(int64(n))), //nolint:gosec // it is small
				Dot: eventstore.Dot{Log: eventstore.LogID{Site: site, Incarnation: 1}, Seq: n + 1},
			}
			records, err := s.add(&e)
			if err != nil {
				t.Fatal(err)
			}
			written += len(records)
		}
	}
	// Each event but the first of bj is in conflict with what the other site had written before it.
	if conflicts := 2*events - 1; written != conflicts || s.records != conflicts {
		t.Errorf("records written: %d, of %d conflicts, want %d of as many", written, s.records, conflicts)
	}
}

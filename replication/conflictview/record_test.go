package conflictview

import (
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
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

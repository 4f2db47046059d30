package replication

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Of the last event of a log it is told how old it was when it came, for a while.
func TestLagOfALog(t *testing.T) {
	last := came{at: time.Now(), age: 3 * time.Millisecond}
	if lag := last.lag(last.at.Add(time.Second)); lag != last.age {
		t.Errorf("a second after it came the lag is %s", lag)
	}
	if lag := last.lag(last.at.Add(time.Minute)); lag != 0 {
		t.Errorf("a minute after it came the lag is %s", lag)
	}
}

// It is told for how long events are known and not here: from when the first of them was heard of, not from when one came last.
func TestMissingSince(t *testing.T) {
	s, o := newSite(t, "bj", "sh"), newSite(t, "sh", "bj")
	log := o.log.ID()
	missing := func(after time.Duration, known uint64) time.Duration {
		t.Helper()
		s.now.Mono += after
		s.step(Heartbeat{Site: "sh", Log: log, Heads: []eventstore.LogHead{{Log: log, Seq: known, Chain: eventstore.Hash{1}}}})
		for _, l := range s.core.Status(s.now).Logs {
			if l.Log == log {
				return l.Missing
			}
		}
		t.Fatal("nothing is said of the log")
		return 0
	}
	for _, c := range []struct {
		after time.Duration
		known uint64
		want  time.Duration
	}{{8 * time.Hour, 0, 0}, {8 * time.Hour, 3, 0}, {time.Second, 4, time.Second}, {time.Minute, 4, 61 * time.Second}} {
		if got := missing(c.after, c.known); got != c.want {
			t.Errorf("%s later, with %d events known, they are missing for %s, want %s", c.after, c.known, got, c.want)
		}
	}
}

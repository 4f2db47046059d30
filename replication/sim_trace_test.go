package replication_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// traceStep says what was given to a core and what it wants done, unless that is nothing of note.
func (s *site) traceStep(in replication.Input, out *replication.Effects) {
	if s.w.trace == nil {
		return
	}
	s.traceClock()
	what := input(in)
	done := outcome(out)
	if what != "" || done != "" {
		s.w.tracef("%s: %s → %s", s.name, what, done)
	}
}

// traceClock says how wrong a site's clock is, and what the site knows of it, when either has changed.
func (s *site) traceClock() {
	if s.core == nil {
		return
	}
	status := s.core.Status(s.instant())
	c, records := status.Clock, "records"
	if err := s.core.Writable(); err != nil {
		records = "records nothing"
	}
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
	says := fmt.Sprintf("%s goes by a clock that is off by %s, finds it %s ahead and %s behind, its log %s in the future, and %s",
		s.name, round(s.wrongBy()), round(c.Ahead), round(c.Behind), round(c.Future), records)
	if says != s.says {
		s.says = says
		s.w.tracef("%s", says)
	}
}

// input says what a core is given; beats and ticks are nothing of note.
func input(in replication.Input) string {
	switch in := in.(type) {
	case replication.Arrived:
		return "arrived " + run(in.Events)
	case replication.Pulled:
		if in.Err != nil {
			return fmt.Sprintf("pulled from %s: %v", in.Site, in.Err)
		}
		return fmt.Sprintf("pulled from %s %s", in.Site, run(in.Events))
	case replication.Received:
		return "received " + eventstore.Dot{Log: in.Head.Log, Seq: in.Head.Seq}.String()
	case replication.Refused:
		return "refused " + in.Log.String()
	case replication.Topic:
		return "topic " + heads(in.Heads)
	}
	return ""
}

// outcome says what a core wants done.
func outcome(out *replication.Effects) string {
	var parts []string
	for _, r := range out.Receive {
		parts = append(parts, "receive "+run(r.Events))
	}
	for _, p := range out.Pulls {
		parts = append(parts, fmt.Sprintf("pull %s/%d..%d from %s", p.Log, p.After+1, p.Through, p.Site))
	}
	if out.Life != 0 {
		parts = append(parts, fmt.Sprintf("life %d", out.Life))
	}
	return strings.Join(parts, ", ")
}

// run names the events of one log by their seqs.
func run(events []eventstore.Recorded) string {
	if len(events) == 0 {
		return "nothing"
	}
	var b strings.Builder
	b.WriteString(events[0].Dot.Log.String() + "/")
	for i := 0; i < len(events); {
		end := i + 1
		for end < len(events) && events[end].Dot.Seq == events[end-1].Dot.Seq+1 {
			end++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", events[i].Dot.Seq)
		if end > i+1 {
			fmt.Fprintf(&b, "..%d", events[end-1].Dot.Seq)
		}
		i = end
	}
	return b.String()
}

func heads(heads []eventstore.LogHead) string {
	var parts []string
	for _, h := range heads {
		parts = append(parts, eventstore.Dot{Log: h.Log, Seq: h.Seq}.String())
	}
	return strings.Join(parts, " ")
}

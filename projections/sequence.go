package projections

import (
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// recentStreams is how many streams a sequence knows the versions of, at least; at most it is twice as many.
const recentStreams = 1 << 16

// sequence checks that a source leaves nothing out, repeats nothing and keeps the order:
//   - positions rise, within one incarnation;
//   - the seqs of the log's own events follow each other without a gap, from the cursor on, and end at what the chunk says;
//   - the seqs of every other log follow each other, from the first that is seen;
//   - the versions of a stream follow each other, from the first that is seen, as long as only this log writes it.
//
// INVARIANT: what check has let through is dense. Memory is bounded: of streams only the recent ones are known.
type sequence struct {
	name    string // of the projection, for errors
	own     eventstore.LogID
	at      Cursor
	foreign map[eventstore.LogID]uint64
	// A stream's last version; 0 marks one that other logs write too. When recent is full it becomes older.
	recent, older map[eventstore.StreamID]uint64
}

func newSequence(name string, own eventstore.LogID, at Cursor) *sequence {
	return &sequence{
		name: name, own: own, at: at,
		foreign: make(map[eventstore.LogID]uint64),
		recent:  make(map[eventstore.StreamID]uint64),
	}
}

// check takes the next chunk. The error matches ErrOrder and names what was expected and what came.
func (s *sequence) check(c *eventstore.Chunk) error {
	for i := range c.Events {
		if err := s.event(&c.Events[i]); err != nil {
			return err
		}
	}
	if s.at.Position.Compare(c.Position) > 0 || s.strange(c.Position) {
		return s.fault("the source says it has read up to %s after giving %s", c.Position, s.at.Position)
	}
	if c.Seq != s.at.Seq {
		return s.fault("at %s the source says seq %d of %s, the events it gave end at seq %d", c.Position, c.Seq, s.own, s.at.Seq)
	}
	s.at.Position = c.Position
	return nil
}

func (s *sequence) event(e *eventstore.Recorded) error {
	if s.at.Position.Compare(e.Position) >= 0 || s.strange(e.Position) {
		return s.fault("event %s stands at %s, after one at %s", e.Dot, e.Position, s.at.Position)
	}
	if e.Dot.Log == s.own {
		if e.Dot.Seq != s.at.Seq+1 {
			return s.fault("seq %d of %s was expected at %s, and seq %d came", s.at.Seq+1, s.own, e.Position, e.Dot.Seq)
		}
		s.at.Seq = e.Dot.Seq
	} else {
		if last, seen := s.foreign[e.Dot.Log]; seen && e.Dot.Seq != last+1 {
			return s.fault("seq %d of %s was expected at %s, and seq %d came", last+1, e.Dot.Log, e.Position, e.Dot.Seq)
		}
		s.foreign[e.Dot.Log] = e.Dot.Seq
	}
	s.at.Position = e.Position
	return s.version(e)
}

func (s *sequence) version(e *eventstore.Recorded) error {
	last, seen := s.recent[e.Stream]
	if !seen {
		last, seen = s.older[e.Stream]
		if len(s.recent) >= recentStreams {
			s.older, s.recent = s.recent, make(map[eventstore.StreamID]uint64, recentStreams)
		}
	}
	// The shard's earlier lives wrote their versions on, too.
	if e.Dot.Log.Site != s.own.Site || e.Dot.Log.Shard != s.own.Shard || seen && last == 0 {
		s.recent[e.Stream] = 0
		return nil
	}
	if seen && e.Version <= last && e.Dot.Log != s.own {
		s.recent[e.Stream] = 0 // the log had lost it, and wrote on before it came back from another site
		return nil
	}
	if seen && e.Version != last+1 {
		return s.fault("version %d of stream %s was expected at %s, and version %d came", last+1, e.Stream, e.Position, e.Version)
	}
	s.recent[e.Stream] = e.Version
	return nil
}

// strange reports whether p is of another life of the log.
func (s *sequence) strange(p eventstore.Position) bool {
	return p.LSN != 0 && p.Incarnation != s.own.Incarnation
}

func (s *sequence) fault(format string, args ...any) error {
	return fmt.Errorf("%w: projection %s: %s", ErrOrder, s.name, fmt.Sprintf(format, args...))
}

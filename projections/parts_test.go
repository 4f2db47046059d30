package projections

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// small is a sink that takes a few events at once, each of which writes so much that it is full after some.
type small struct {
	takes   int
	at      Cursor
	commits []int // how many events each had
	refused int
}

func (s *small) Commit(_ context.Context, from, to Cursor, events []eventstore.Recorded) ([]Parked, error) {
	if from != s.at {
		return nil, fmt.Errorf("%w: at %s, the commit is from %s", ErrCursorMoved, s.at, from)
	}
	for i := s.takes; i < len(events); i++ {
		if !together(&events[i-1], &events[i]) {
			s.refused++
			return nil, &TooMuchError{Fits: i}
		}
	}
	s.at, s.commits = to, append(s.commits, len(events))
	return nil, nil
}

// A batch that writes more than a sink takes at once is committed in parts, which end where batches of the log do, with the cursors that
// a reader would have there.
func TestCommitInParts(t *testing.T) {
	own := eventstore.LogID{Site: "bj", Incarnation: 1}
	foreign := eventstore.LogID{Site: "sh", Incarnation: 1}
	var all, wanted []eventstore.Recorded
	var seqs [2]uint64
	for lsn := uint64(1); lsn <= 400; lsn++ {
		log := 0
		if lsn%20 > 12 {
			log = 1
		}
		seqs[log]++
		e := eventstore.Recorded{Position: eventstore.Position{Incarnation: 1, LSN: lsn}}
		e.Dot = eventstore.Dot{Log: []eventstore.LogID{own, foreign}[log], Seq: seqs[log]}
		e.Batch = eventstore.Batch{FirstSeq: (seqs[log]-1)/4*4 + 1, Count: 4}
		all = append(all, e)
		if lsn%3 != 0 {
			wanted = append(wanted, e)
		}
	}
	end := Cursor{Position: all[len(all)-1].Position, Seq: seqs[0]}
	for _, takes := range []int{1, 7, 100, 1000} {
		s := &small{takes: takes}
		f := &folder{name: "parts", into: s, opts: &Options{Logger: slog.New(slog.DiscardHandler)}}
		b := &batch{piece: piece{events: wanted, seqs: seqsAt(wanted, all, own, 0), to: end}}
		if err := f.commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		events := 0
		for _, n := range s.commits {
			events += n
			if last := wanted[events-1]; events < len(wanted) && together(&last, &wanted[events]) {
				t.Errorf("with %d at once a part ends at %s, in the middle of a batch", takes, last.Position)
			}
		}
		if events != len(wanted) || s.at != end || f.at != end || f.committed != end {
			t.Errorf("with %d at once %d of %d events are committed, up to %s, want %s", takes, events, len(wanted), s.at, end)
		}
		if s.refused > 2*len(s.commits) || takes > len(wanted) && len(s.commits) != 1 {
			t.Errorf("with %d at once: %d commits, %d were refused", takes, len(s.commits), s.refused)
		}
	}
	// Within a batch of the feed the cursor is that of the events before, those that are not wanted too.
	for i, seq := range seqsAt(wanted, all, own, 0) {
		want := uint64(0)
		for _, e := range all {
			if e.Dot.Log == own && e.Position.LSN <= wanted[i].Position.LSN {
				want = e.Dot.Seq
			}
		}
		if seq != want {
			t.Fatalf("at %s the seq is %d, want %d", wanted[i].Position, seq, want)
		}
	}
}

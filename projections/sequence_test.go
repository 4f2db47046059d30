package projections

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

var (
	ownLog   = eventstore.LogID{Site: "bj", Incarnation: 2, Shard: 1}
	otherLog = eventstore.LogID{Site: "sh", Incarnation: 1, Shard: 1}
)

// logged returns an event at an lsn of the own log.
func logged(log eventstore.LogID, lsn, seq uint64, stream string, version uint64) eventstore.Recorded {
	return eventstore.Recorded{
		Position: eventstore.Position{Incarnation: ownLog.Incarnation, LSN: lsn},
		Dot:      eventstore.Dot{Log: log, Seq: seq},
		Stream:   eventstore.Stream("order", stream), Version: version,
	}
}

func chunkOf(lsn, seq uint64, events ...eventstore.Recorded) eventstore.Chunk {
	return eventstore.Chunk{Events: events, Seq: seq, Position: eventstore.Position{Incarnation: ownLog.Incarnation, LSN: lsn}}
}

func TestSequenceLetsADenseLogThrough(t *testing.T) {
	s := newSequence("orders", ownLog, Cursor{Position: eventstore.Position{Incarnation: 2, LSN: 10}, Seq: 7})
	for i, c := range []eventstore.Chunk{
		chunkOf(12, 9, logged(ownLog, 11, 8, "a", 4), logged(ownLog, 12, 9, "b", 1)),
		chunkOf(15, 9), // entries that are no events
		chunkOf(18, 10, logged(otherLog, 16, 500, "c", 9), logged(ownLog, 17, 10, "a", 5), logged(otherLog, 18, 501, "a", 6)),
		chunkOf(19, 11, logged(ownLog, 19, 11, "a", 6)), // written at two sites: versions may meet
	} {
		if err := s.check(&c); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
	}
}

// What the log had lost of an earlier life comes back behind what was written meanwhile, with the versions of then.
func TestSequenceLetsALostTailComeBack(t *testing.T) {
	earlier := ownLog
	earlier.Incarnation = 1
	s := newSequence("orders", ownLog, Cursor{Position: eventstore.Position{Incarnation: 2, LSN: 10}, Seq: 7})
	c := chunkOf(15, 9, logged(ownLog, 11, 8, "a", 4), logged(earlier, 12, 30, "a", 4), logged(earlier, 13, 31, "a", 5),
		logged(earlier, 14, 32, "b", 1), logged(ownLog, 15, 9, "a", 7))
	if err := s.check(&c); err != nil {
		t.Fatal(err)
	}
}

// TestSequenceStopsAtWhatIsOutOfOrder shows P2.
func TestSequenceStopsAtWhatIsOutOfOrder(t *testing.T) {
	for name, test := range map[string]struct {
		chunk eventstore.Chunk
		says  []string
	}{
		"a seq is left out":               {chunkOf(13, 10, logged(ownLog, 12, 9, "a", 4)), []string{"seq 8", "seq 9", "shard-01@bj/2", "2-12"}},
		"a seq is repeated":               {chunkOf(11, 7, logged(ownLog, 11, 7, "a", 4)), []string{"seq 8", "seq 7"}},
		"an event is left out at the end": {chunkOf(12, 9, logged(ownLog, 11, 8, "a", 4)), []string{"seq 9", "seq 8"}},
		"all events are left out":         {chunkOf(12, 9), []string{"seq 9", "seq 7"}},
		"a position goes back":            {chunkOf(11, 8, logged(ownLog, 10, 8, "a", 4)), []string{"2-10", "bj/2/8"}},
		"positions are swapped": {
			chunkOf(12, 9, logged(ownLog, 12, 8, "a", 4), logged(ownLog, 11, 9, "a", 5)), []string{"2-11", "2-12"},
		},
		"a version is left out": {
			chunkOf(12, 9, logged(ownLog, 11, 8, "a", 4), logged(ownLog, 12, 9, "a", 6)), []string{"version 5", "version 6", "default/order/a"},
		},
		"a seq of another log is left out": {
			chunkOf(12, 7, logged(otherLog, 11, 5, "a", 4), logged(otherLog, 12, 7, "a", 5)), []string{"seq 6", "seq 7", "shard-01@sh/1"},
		},
		"the end lies before the events": {chunkOf(9, 8, logged(ownLog, 11, 8, "a", 4)), []string{"2-9", "2-11"}},
		"an event is of another life": {
			eventstore.Chunk{Seq: 8, Position: eventstore.Position{Incarnation: 3, LSN: 11}}, []string{"3-11"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSequence("orders", ownLog, Cursor{Position: eventstore.Position{Incarnation: 2, LSN: 10}, Seq: 7})
			err := s.check(&test.chunk)
			if !errors.Is(err, ErrOrder) {
				t.Fatalf("got %v, want ErrOrder", err)
			}
			for _, part := range append(test.says, "orders") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not name %q", err, part)
				}
			}
		})
	}
}

func TestSequenceKnowsABoundedNumberOfStreams(t *testing.T) {
	s := newSequence("orders", ownLog, Cursor{})
	for i := range uint64(5 * recentStreams) {
		c := chunkOf(i+1, i+1, logged(ownLog, i+1, i+1, fmt.Sprint(i), 1))
		if err := s.check(&c); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.recent) + len(s.older); n > 2*recentStreams {
		t.Errorf("versions of %d streams are kept, want at most %d", n, 2*recentStreams)
	}
	// The last recentStreams are still known: the very next version is right, another is not.
	n := uint64(5 * recentStreams)
	stream := fmt.Sprint(n - recentStreams + 1)
	c := chunkOf(n+1, n+1, logged(ownLog, n+1, n+1, stream, 3))
	if err := s.check(&c); !errors.Is(err, ErrOrder) {
		t.Errorf("a version was left out of a recent stream: %v, want ErrOrder", err)
	}
}

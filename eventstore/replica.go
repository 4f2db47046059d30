package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/internal/hlc"
)

// Replica is a store that takes in the events of other logs beside those that are born in its own: of other sites, and of
// earlier lives of its own log that it has lost.
//
// All stand in one dense local order, the lsn. Of each log a store holds a prefix: every seq from 1 on up to its LogHead, and
// nothing else, so that a cursor and what it stands for can never differ. An event keeps everything that it was born with,
// its version too; only its position is the store's own.
//
// What changes for who reads a store that has foreign events: the events of a stream are read in canonical order
// (Recorded.CompareCanonical), and its version is their number. The version from which a read begins is a place in that
// order; Recorded.Version is what the event was given where it was born, and may be another, or that of several.
// Recorded.Revises marks events that were put before others which the log had already. A request that was done at another
// site is known here once its events are, and of one that was done twice the batch that came first answers for it.
type Replica interface {
	// Receive records events of another log, in the order of their seqs and in whole batches, all or none, and returns the
	// position of the last of those given when they are durable. Those that are held already are passed over. Errors that leave
	// nothing in the log: ErrGap (*GapError), when the first that is not held is not the next one; ErrFork (*ForkError), when
	// one has a seq that is held with other content; ErrInvalid, when they are not of one log, not in order, not whole, or of
	// the store's own life; and those of Append about the state of the store.
	//
	// The store's clock has observed every event when they can be read, so that what is decided with their knowledge comes
	// after them in canonical order. The store takes ownership of the events.
	Receive(ctx context.Context, events []Recorded) (Position, error)
	// Heads returns how far each log is held and durable, in the order of LogID.Compare, the store's own among them.
	Heads(ctx context.Context) ([]LogHead, error)
	// ReadLog yields the events of one log after a seq, in the order of seq, with their chain, up to what was durable when the
	// read began. A log of which nothing is held yields nothing.
	ReadLog(ctx context.Context, log LogID, after uint64) iter.Seq2[Recorded, error]
	// ChainAt returns the hash chain of a log after the event with a seq, ChainStart for seq 0. It is false when not so much
	// of the log is held and durable.
	ChainAt(ctx context.Context, log LogID, seq uint64) (chain Hash, held bool, err error)
}

// LogHead says how far a log is held.
type LogHead struct {
	Log LogID
	// Seq and HLC are of the last event that is held, Chain is the log's hash chain after it. Without any, Seq is 0 and Chain
	// is ChainStart of the log.
	Seq   uint64
	HLC   hlc.Timestamp
	Chain Hash
}

// Errors of Receive.
var (
	// ErrGap: events of a log are missing before those that came. The error is a *GapError.
	ErrGap = errors.New("events are missing")
	// ErrFork: two events have the same dot and are not the same. The error is a *ForkError. One of them was recorded by a
	// copy of the site that should not have gone on; nobody can tell here which.
	ErrFork = errors.New("log is forked")
)

// GapError says what is missing. It matches ErrGap.
type GapError struct {
	Log LogID
	// Held is the seq of the last event that is held, Got that of the first which came.
	Held, Got uint64
}

// Error names the events that are missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("events are missing: of %s seq %d to %d", e.Log, e.Held+1, e.Got-1)
}

// Is makes errors.Is(err, ErrGap) true.
func (e *GapError) Is(target error) bool { return target == ErrGap }

// ForkError says where a log is forked. It matches ErrFork.
type ForkError struct {
	// Dot is the first event that is known to differ.
	Dot Dot
	// Held is the hash chain after it as it is held, Got as it came.
	Held, Got Hash
}

// Error says where, and by which hashes.
func (e *ForkError) Error() string {
	return fmt.Sprintf("log is forked: %s is held with chain %x and came with chain %x", e.Dot, e.Held[:8], e.Got[:8])
}

// Is makes errors.Is(err, ErrFork) true.
func (e *ForkError) Is(target error) bool { return target == ErrFork }

// Foreign checks what can be checked of events before a store of the given log receives them: that they are of one log,
// not of the store's own life, in order without a gap, and whole batches.
func Foreign(own LogID, events []Recorded) error {
	if len(events) == 0 {
		return invalidf("no events to receive")
	}
	first := events[0].Dot
	if first.Log == own {
		return invalidf("event %s is of this log itself", first)
	}
	if err := ValidateSite(first.Log.Site); err != nil || first.Log.Incarnation == 0 || first.Seq == 0 {
		return invalidf("event %s has a name that no event can have", first)
	}
	if first.Seq != events[0].Batch.FirstSeq {
		return invalidf("event %s is not the first of its batch", first)
	}
	for i := range events {
		e := &events[i]
		want := Dot{first.Log, first.Seq + uint64(i)}
		if e.Dot != want {
			return invalidf("event %s stands where %s should", e.Dot, want)
		}
		if e.Batch.FirstSeq > e.Dot.Seq || e.Dot.Seq >= e.Batch.FirstSeq+uint64(e.Batch.Count) {
			return invalidf("event %s is not of its batch, %d from seq %d on", e.Dot, e.Batch.Count, e.Batch.FirstSeq)
		}
		if i > 0 && e.Batch != events[i-1].Batch && (e.Batch.FirstSeq != e.Dot.Seq || !events[i-1].EndsBatch()) {
			return invalidf("event %s begins a batch in the middle of another", e.Dot)
		}
		if e.Version == 0 {
			return invalidf("event %s has no version", e.Dot)
		}
		if err := e.Stream.Validate(); err != nil {
			return fmt.Errorf("event %s: %w", e.Dot, err)
		}
	}
	if last := &events[len(events)-1]; !last.EndsBatch() {
		return invalidf("event %s is not the last of its batch", last.Dot)
	}
	return nil
}

// BeginsBatch says that events which follow what is held do not begin with a batch: what is held of it is whole, so that it
// is another batch here than there.
func BeginsBatch(rest []Recorded) error {
	if len(rest) > 0 && rest[0].Batch.FirstSeq != rest[0].Dot.Seq {
		return invalidf("event %s is of the batch from seq %d on, of which a part is held", rest[0].Dot, rest[0].Batch.FirstSeq)
	}
	return nil
}

// DepOf returns what a store that holds the given logs has of others than its own: the Dep of what it records next.
func DepOf(own LogID, heads []LogHead) Vector {
	var dep Vector
	for _, h := range heads {
		if h.Log != own && h.Seq > 0 {
			dep = append(dep, Dot{h.Log, h.Seq})
		}
	}
	slices.SortFunc(dep, func(a, b Dot) int { return a.Log.Compare(b.Log) })
	return dep
}

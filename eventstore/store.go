package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Store is a shard's log. See the package comment for what every store promises.
type Store interface {
	Appender
	Reader
	// Close stops the store after the appends under way are answered. It is safe to call twice. Later calls of other
	// methods return ErrClosed.
	Close() error
}

// Appender records events.
type Appender interface {
	// Append records the request's events, all or none, and returns when they are as durable as it asked. Errors that
	// leave nothing in the log: ErrInvalid, ErrTooLarge, ErrConflict (*ConflictError with every stream that failed),
	// ErrIDReused, ErrUnsupported, ErrUnavailable, ErrReadOnly, ErrClosed. When ctx ends first, the request may or may
	// not be recorded: repeat it with the same ID. So it is with ErrOutcomeUnknown (*OutcomeUnknownError), which names the
	// ID to repeat it with. With ErrDurabilityTimeout the receipt is valid.
	//
	// The store takes ownership of the request's slices; the caller must not change them afterwards.
	Append(ctx context.Context, r Request) (Receipt, error)
	// Receipt returns the receipt of the request with this ID, with Duplicate set, and the request's hash; ErrNotFound
	// when no such request is durable.
	Receipt(ctx context.Context, tenant, id string) (Receipt, Hash, error)
}

// Reader reads what is durable. Events may be kept; their payloads, tags and vectors may be shared with other readers, and are
// not to be changed.
type Reader interface {
	// Log names the log and says how far it is durable.
	Log(ctx context.Context) (LogState, error)
	// Version returns the stream's version, 0 when it has no events: the number of its events.
	Version(ctx context.Context, stream StreamID) (uint64, error)
	// VersionAt returns the version that the stream stood at as of a position: the number of its events up to there, the
	// position included. ErrWrongIncarnation when the position is not of this log.
	VersionAt(ctx context.Context, stream StreamID, at Position) (uint64, error)
	// PositionAt returns the position that the log stood at as of a time: that of the last event recorded at or before it,
	// to the millisecond, where a batch that was appended together counts from its last event on. It has lsn 0 when nothing
	// is that old. A time that has not passed gives the head of now. Of events of other logs it is known only between which
	// of the log's own they came: they count from the one before them on.
	PositionAt(ctx context.Context, at time.Time) (Position, error)
	// Read yields the stream's events from version from on (1 is the first; 0 means 1), in order, up to what was durable
	// when the read began. A stream without events yields nothing. Where a stream has events of other logs (see Replica),
	// the order is the canonical one, and from is a place in it.
	Read(ctx context.Context, stream StreamID, from uint64) iter.Seq2[Recorded, error]
	// ReadBackwards yields the stream's events from version from down to 1; 0 means from the last.
	ReadBackwards(ctx context.Context, stream StreamID, from uint64) iter.Seq2[Recorded, error]
	// ReadAll yields the log's events after a position, in order, up to what was durable when the read began.
	// ErrWrongIncarnation when the position is not of this log.
	ReadAll(ctx context.Context, after Position, f Filter) iter.Seq2[Recorded, error]
	// ReadAllBackwards yields the log's events before a position, the latest first; the zero position stands for the end
	// of what was durable when the read began. ErrWrongIncarnation when the position is not of this log, ErrUnsupported
	// when the filter asks for the chain, which goes forwards.
	ReadAllBackwards(ctx context.Context, before Position, f Filter) iter.Seq2[Recorded, error]
	// Subscribe follows the log after a position, for ever: first from disk, then live, without a gap and without
	// slowing the writer. ErrUnsupported when the filter has an end.
	Subscribe(ctx context.Context, after Position, f Filter) (Subscription, error)
}

// Subscription follows a log. It is used by one goroutine at a time.
type Subscription interface {
	// Next waits for the log to go on and returns the events that the filter lets through, in order. A batch that was
	// appended together is never split over two chunks. When the filter holds back all there was, it returns with no
	// events, so that the reader's cursor can move. It ends with ctx's error, or ErrClosed.
	Next(ctx context.Context) (Chunk, error)
	// Close ends the subscription; safe twice.
	Close()
}

// Chunk is a piece of the log.
type Chunk struct {
	// Events may be shared with other readers: they are not to be changed.
	Events []Recorded
	// Position is how far the log was read to give this chunk: the reader's next cursor.
	Position Position
	// Seq is the log's own seq at Position, for readers that check density.
	Seq uint64
	// Durable is how far the log was durable then. Position == Durable: the reader is up to date.
	Durable Position
}

// Filter chooses events. Empty fields let everything through; several fields must all match.
type Filter struct {
	// Tenant, when set, must match. Types and Categories hold alternatives.
	Tenant     string
	Categories []string
	Types      []string
	// Query chooses by combinations of types and tags; empty lets everything through.
	Query Query
	// Chain asks for Recorded.Chain to be filled, at the price of hashing each event.
	Chain bool
	// Until ends a read: events after it are held back, so that what is read is the log as of this position. The zero value
	// is no end; a position of this log with lsn 0 lets nothing through.
	Until Position
	// MaxChunk bounds the events in a Chunk (whole batches may exceed it); zero means DefaultMaxChunk, or fewer, so that a
	// chunk takes little memory.
	MaxChunk int
	// MaxBytes bounds about how much memory a Chunk takes, or what a read has in its hands at a time (whole batches may
	// exceed it); zero leaves it to the store. It is for stores that read from disk.
	MaxBytes int
	// Lent is for those who read much and keep no payload: in a read forwards, an event's Payload is valid until the next event
	// is asked for, so that a store may use its memory again. Subscriptions and reads backwards are as without it.
	Lent bool
}

// DefaultMaxChunk is how many events a Chunk holds at most, when the filter does not say.
const DefaultMaxChunk = 1000

// Matches reports whether the filter lets the event through.
func (f *Filter) Matches(r *Recorded) bool {
	return (f.Tenant == "" || f.Tenant == r.Stream.Tenant) &&
		oneOf(f.Categories, r.Stream.Category) && oneOf(f.Types, r.Type) && f.Query.Matches(r)
}

// MatchesAll reports whether the filter lets every event through.
func (f *Filter) MatchesAll() bool {
	return f.Tenant == "" && len(f.Categories)+len(f.Types)+len(f.Query) == 0
}

// Validate says which of the filter's names no event can have: such a filter lets nothing through whatever is recorded, and is
// a mistake, where a name that nothing has yet is none. All faults are joined; they match ErrInvalid or ErrTooLarge.
func (f *Filter) Validate() error {
	var faults []error
	if f.Tenant != "" {
		faults = append(faults, validateName("tenant", f.Tenant))
	}
	for _, category := range f.Categories {
		faults = append(faults, validateName("category", category))
	}
	for _, name := range f.Types {
		faults = append(faults, validateType(name))
	}
	return errors.Join(append(faults, f.Query.Validate())...)
}

// End returns the position up to which a read with this filter goes, in a log with the given head: Until, or the head where
// the filter has no end. ErrWrongIncarnation when Until is not of that log.
func (f *Filter) End(head Position) (Position, error) {
	switch {
	case f.Until == Position{}:
		return head, nil
	case f.Until.IsZero() && f.Until.Incarnation == head.Incarnation:
		return f.Until, nil
	case f.Until.IsZero():
		return head, fmt.Errorf("read until %s, the log's head is %s: %w", f.Until, head, ErrWrongIncarnation)
	}
	if err := f.Until.Check(head); err != nil {
		return head, fmt.Errorf("read until %w", err)
	}
	return f.Until, nil
}

// Endless returns ErrUnsupported when the filter has an end, which what follows the log for ever cannot keep.
func (f *Filter) Endless() error {
	if f.Until != (Position{}) {
		return fmt.Errorf("%w: a subscription that ends", ErrUnsupported)
	}
	return nil
}

// Backwards returns ErrUnsupported when the filter asks for what only a read forwards can give.
func (f *Filter) Backwards() error {
	if f.Chain {
		return fmt.Errorf("%w: hash chain of a read backwards", ErrUnsupported)
	}
	return nil
}

func oneOf(allowed []string, s string) bool {
	if len(allowed) == 0 {
		return true
	}
	for _, a := range allowed {
		if a == s {
			return true
		}
	}
	return false
}

// LogState says which log a store holds and how far it is durable.
type LogState struct {
	ID LogID
	// Durable is the position of the last durable entry.
	Durable Position
	// Seq is the seq of the last durable event that was born here, and Chain the hash chain after it.
	Seq   uint64
	Chain Hash
	// Streams is the number of streams that have events.
	Streams uint64
}

// Verifier checks stored data against itself.
type Verifier interface {
	// Verify reads the whole log and checks what can be checked: checksums, density of lsn, seq and versions, whole
	// batches, the hash chain, and that the index says the same as the log. It calls progress, when not nil, now and
	// then. Faults are in the report; the error is for what kept it from looking.
	Verify(ctx context.Context, progress func(done, total uint64)) (Report, error)
}

// Report is what Verify found.
type Report struct {
	Events, Streams uint64
	Position        Position
	// Faults names each thing that is wrong and where; empty when all is well.
	Faults []string
}

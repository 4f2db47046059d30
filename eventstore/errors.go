package eventstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Errors that callers branch on.
var (
	// ErrInvalid: the request itself is wrong; the text says which part.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: the request is beyond a limit; the text says which.
	ErrTooLarge = errors.New("too large")
	// ErrConflict: an expectation did not hold. The error is a *ConflictError.
	ErrConflict = errors.New("conflict")
	// ErrIDReused: the request's ID was used before for a different request.
	ErrIDReused = errors.New("request id was used before with different content")
	// ErrNotFound: there is no such stream, event or receipt.
	ErrNotFound = errors.New("not found")
	// ErrUnsupported: this store cannot do what was asked, and has not weakened it silently.
	ErrUnsupported = errors.New("not supported here")
	// ErrUnavailable: what the request needs is down just now; nothing was appended, try again.
	ErrUnavailable = errors.New("unavailable")
	// ErrArchiveUnavailable: old events that are wanted are in an archive that cannot be reached. The error is an
	// *ArchiveError; it matches ErrUnavailable too.
	ErrArchiveUnavailable = fmt.Errorf("archive %w", ErrUnavailable)
	// ErrTruncated: events that are wanted were dropped for good. The error is a *TruncatedError.
	ErrTruncated = errors.New("events were dropped")
	// ErrOutcomeUnknown: the request may be recorded or not, and it cannot be told which. The error is an
	// *OutcomeUnknownError; a repeated request with the ID that it names is applied once.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrDurabilityTimeout: the request is durable here, but the durability it asked for was not reached in time.
	// The receipt that comes with it is valid; a repeated request with the same ID waits again.
	ErrDurabilityTimeout = errors.New("requested durability not reached in time")
	// ErrWrongIncarnation: a position names another life of this log, or a place beyond its head.
	ErrWrongIncarnation = errors.New("position is not of this log")
	// ErrCorrupt: stored data does not verify.
	ErrCorrupt = errors.New("corrupt")
	// ErrDamaged: files of the log are damaged, in a way that may be mended while it is in use: by the store's repair, which
	// finds it, where the log can be had from elsewhere. Who reads on and on tries again. It matches ErrCorrupt too; what else
	// does not verify is not for that repair.
	ErrDamaged = fmt.Errorf("files are damaged: %w", ErrCorrupt)
	// ErrArchiveDamaged: a piece of the archive is not what was written, and is read again once it has been put back. The error
	// is an *ArchiveDamageError; it matches ErrDamaged too, though the store's repair does not mend it.
	ErrArchiveDamaged = fmt.Errorf("archive: %w", ErrDamaged)
	// ErrReadOnly: the store takes no writes; the text says why and what to do.
	ErrReadOnly = errors.New("read-only")
	// ErrErased: the personal data of the subject are erased, for good; none can be read, and none recorded any more.
	ErrErased = errors.New("subject is erased")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("closed")
)

// StreamConflict is one expectation that did not hold.
type StreamConflict struct {
	Stream StreamID
	Want   Expect
	// Got is the version the stream stands at; 0 means it has no events.
	Got uint64
}

// ConditionConflict is a condition that did not hold.
type ConditionConflict struct {
	Condition
	// Found is the place of the last event that the query matches.
	Found Position
}

// ConflictError lists every expectation of a request that did not hold. It matches ErrConflict.
type ConflictError struct {
	Conflicts []StreamConflict
	// Condition is nil when the request had none or it held.
	Condition *ConditionConflict
}

// Error names each stream with what was wanted and what was found, and the condition with what it met.
func (e *ConflictError) Error() string {
	parts := make([]string, 0, len(e.Conflicts)+1)
	for _, c := range e.Conflicts {
		parts = append(parts, fmt.Sprintf("stream %s: want %s, is at version %d", c.Stream, c.Want, c.Got))
	}
	if c := e.Condition; c != nil {
		parts = append(parts, fmt.Sprintf("condition: want none of %s after %s, found one at %s", c.Query, c.After, c.Found))
	}
	return "conflict: " + strings.Join(parts, "; ")
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// OutcomeUnknownError is an append whose answer did not come. It matches ErrOutcomeUnknown, and nothing of its cause: that
// may stand for an append that left nothing.
type OutcomeUnknownError struct {
	// ID is the request's, or the one that was made for it: the same request with this ID is applied once, whatever has
	// become of this one. Empty: it had none, and has to be looked for in its streams.
	ID string
	// Cause is what kept the answer from coming.
	Cause error
}

// Error says what is not known, why, and what to do.
func (e *OutcomeUnknownError) Error() string {
	if e.ID == "" {
		return fmt.Sprintf("outcome unknown: the request has no id, look in its streams whether it is recorded: %v", e.Cause)
	}
	return fmt.Sprintf("outcome unknown: repeat the request with the id %s: %v", e.ID, e.Cause)
}

// Is makes errors.Is(err, ErrOutcomeUnknown) true.
func (e *OutcomeUnknownError) Is(target error) bool { return target == ErrOutcomeUnknown }

// ArchiveError says which piece of the archive cannot be had. It matches ErrArchiveUnavailable and ErrUnavailable, and
// nothing of its cause: an archive that is closed is not the store.
type ArchiveError struct {
	// Segment is the name of the piece, Location the folder or the URL of the bucket that should have it.
	Segment, Location string
	// Cause is what kept it from being read or written.
	Cause error
}

// Error says what cannot be had, where it should be, and why.
func (e *ArchiveError) Error() string {
	return fmt.Sprintf("archive unavailable: segment %s at %s: %v", e.Segment, e.Location, e.Cause)
}

// Is makes errors.Is true for ErrArchiveUnavailable and ErrUnavailable.
func (e *ArchiveError) Is(target error) bool {
	return target == ErrArchiveUnavailable || target == ErrUnavailable
}

// ArchiveDamageError says which piece of the archive is not what was written. It matches ErrArchiveDamaged, ErrDamaged and
// ErrCorrupt.
type ArchiveDamageError struct {
	// Segment is the name of the piece, Location the folder or the URL of the bucket that has it.
	Segment, Location string
	// Cause is what does not verify.
	Cause error
}

// Error says what is damaged, where it is, and how that shows.
func (e *ArchiveDamageError) Error() string {
	return fmt.Sprintf("archive damaged: segment %s at %s: %v", e.Segment, e.Location, e.Cause)
}

// Unwrap makes the error match ErrArchiveDamaged and what its cause matches.
func (e *ArchiveDamageError) Unwrap() []error { return []error{ErrArchiveDamaged, e.Cause} }

// TruncatedError says from where on a log still has its events. It matches ErrTruncated.
type TruncatedError struct {
	// First is the position of the first event that was not dropped.
	First Position
}

// Before returns the position behind which everything is left.
func (e *TruncatedError) Before() Position {
	return Position{Incarnation: e.First.Incarnation, LSN: e.First.LSN - 1}
}

// Error says what is left.
func (e *TruncatedError) Error() string {
	return fmt.Sprintf("events were dropped: the log has them from %s on", e.First)
}

// Is makes errors.Is(err, ErrTruncated) true.
func (e *TruncatedError) Is(target error) bool { return target == ErrTruncated }

// Class is what everybody does about an error.
type Class uint8

// The classes of errors.
const (
	// Broken: a bug or corruption. Stop and say so. It is the class of errors that are not known.
	Broken Class = iota
	// Rejected: a no that stays a no. Tell the caller; do not retry, do not alert.
	Rejected
	// Transient: try again by policy.
	Transient
)

// String returns the name of the class.
func (c Class) String() string {
	switch c {
	case Rejected:
		return "rejected"
	case Transient:
		return "transient"
	}
	return "broken"
}

// classified is implemented by errors that know their class, such as the business errors of aggregates.
type classified interface{ Class() Class }

// ClassOf returns the class of err: what its type says, else what this package's sentinels say, else Broken.
func ClassOf(err error) Class {
	var c classified
	if errors.As(err, &c) {
		return c.Class()
	}
	for _, rejected := range []error{ErrInvalid, ErrTooLarge, ErrConflict, ErrIDReused, ErrNotFound, ErrUnsupported, ErrReadOnly, ErrWrongIncarnation, ErrErased, ErrTruncated} {
		if errors.Is(err, rejected) {
			return Rejected
		}
	}
	for _, transient := range []error{ErrUnavailable, ErrOutcomeUnknown, ErrDurabilityTimeout, ErrClosed, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, transient) {
			return Transient
		}
	}
	return Broken
}

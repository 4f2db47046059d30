package eventstore

import (
	"errors"
	"fmt"
)

// Fence says whether this site may write a stream now, and under which epoch of its cell. A store that has one asks it of
// every stream of a request in the moment before it accepts it, and writes the epoch into the events; what is received from
// other sites is not asked about. It must be quick, and must not block.
type Fence func(stream StreamID, cell uint16) (epoch uint32, err error)

// ErrNotHome: the stream is written at another site. The error is a *NotHomeError.
var ErrNotHome = errors.New("not at home here")

// NotHomeError says where a stream is written. It matches ErrNotHome.
type NotHomeError struct {
	Stream StreamID
	Cell   uint16
	// Home is the label of the shard that may write the cell, such as shard-02@sh; Epoch is that of its ownership.
	Home  string
	Epoch uint32
	// Moving: the cell is on its way to Home, and nobody writes it for a moment. Try again.
	Moving bool
}

// Error says where to go, or to wait.
func (e *NotHomeError) Error() string {
	if e.Moving {
		return fmt.Sprintf("stream %s: its cell %d is moving to %s: try again in a moment", e.Stream, e.Cell, e.Home)
	}
	return fmt.Sprintf("stream %s is not at home here: its cell %d is written at %s, epoch %d", e.Stream, e.Cell, e.Home, e.Epoch)
}

// Is makes errors.Is(err, ErrNotHome) true.
func (e *NotHomeError) Is(target error) bool { return target == ErrNotHome }

// Class is Transient while the cell moves; else the answer stays no here.
func (e *NotHomeError) Class() Class {
	if e.Moving {
		return Transient
	}
	return Rejected
}

// ErrBlocked: nobody may write the stream for now, because sites do not agree on who may. The error is a *BlockedError.
var ErrBlocked = errors.New("writes are blocked")

// BlockedError says why a stream may not be written for now. It matches ErrBlocked.
type BlockedError struct {
	Stream StreamID
	Cell   uint16
	// Mode is the one that the site is in for the stream, such as write-blocked; Why says what differs and what to do.
	Mode, Why string
}

// Error says what differs, and what to do.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("stream %s (cell %d) is %s: %s", e.Stream, e.Cell, e.Mode, e.Why)
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

// Class is Transient: it ends by itself when the sites agree.
func (e *BlockedError) Class() Class { return Transient }

package saga

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// verdict is what becomes of a dispatch.
type verdict uint8

const (
	success verdict = iota
	refusal         // an input: Refused
	retry           // for ever
	fault           // parks the instance
)

// CodeRejected is the code of Refused for errors of class Rejected that say nothing more exact.
const CodeRejected = "rejected"

// judge says what becomes of a dispatch that returned err, and for a refusal its code and reason.
func judge(err error) (v verdict, code, reason string) {
	if err == nil {
		return success, "", ""
	}
	var r *commands.Rejection
	if errors.As(err, &r) {
		return refusal, r.Code, r.Reason
	}
	for _, known := range []struct {
		err  error
		code string
	}{
		{eventstore.ErrInvalid, CodeInvalid},
		{eventstore.ErrConflict, CodeConflict},
		{eventstore.ErrTooLarge, CodeTooLarge},
		{eventstore.ErrNotFound, CodeNotFound},
		{eventstore.ErrNotHome, CodeNotHome},
	} {
		if errors.Is(err, known.err) && eventstore.ClassOf(err) == eventstore.Rejected {
			return refusal, known.code, err.Error()
		}
	}
	switch {
	case errors.Is(err, eventstore.ErrReadOnly):
		// To a caller a no; to a process that has all the time in the world a pause.
		return retry, "", ""
	case errors.Is(err, eventstore.ErrIDReused), errors.Is(err, eventstore.ErrUnsupported):
		return fault, "", ""
	}
	switch eventstore.ClassOf(err) {
	case eventstore.Transient:
		return retry, "", ""
	case eventstore.Rejected:
		return refusal, CodeRejected, err.Error()
	}
	return fault, "", ""
}

// lasting returns the part of a receipt that is the same whenever it is asked for: what the commands added, and where.
func lasting(r eventstore.Receipt) eventstore.Receipt {
	out := r
	out.Duplicate, out.Streams, out.Reached = false, nil, eventstore.Local
	for _, s := range r.Streams {
		if s.First > 0 {
			out.Streams = append(out.Streams, s)
		}
	}
	return out
}

// classed is an error of a class of our choice.
type classed struct {
	err   error
	class eventstore.Class
}

func (c *classed) Error() string           { return c.err.Error() }
func (c *classed) Unwrap() error           { return c.err }
func (c *classed) Class() eventstore.Class { return c.class }

// broken returns err as one that parks the instance.
func broken(err error) error { return &classed{err, eventstore.Broken} }

// storeFault returns the store's error with its operation. What the store refuses for the moment is tried again, a full or
// closed store included; all else parks.
func storeFault(operation string, err error) error {
	err = fmt.Errorf("%s: %w", operation, err)
	if errors.Is(err, eventstore.ErrReadOnly) || errors.Is(err, context.DeadlineExceeded) {
		return &classed{err, eventstore.Transient}
	}
	if eventstore.ClassOf(err) == eventstore.Rejected {
		return broken(err)
	}
	return err
}

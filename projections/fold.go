package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Recorder is a writer that remembers what was written until the sink carries it out.
type Recorder interface {
	// Begin says where the event stands of which the following is written. No mark is good any more.
	Begin(at eventstore.Position)
	// Mark returns a mark of what was written so far; Undo forgets everything after it, as of an event that could not be applied.
	Mark() int
	Undo(mark int)
	// Reverse puts in the place of what was written since the mark what takes it back from a model that has it: what was added is
	// added with the other sign; what was set or deleted, a key, field or member, is deleted, whatever else was done to it.
	Reverse(mark int)
}

// Sized is a Recorder that says about how many bytes were written.
type Sized interface {
	Size() int
}

// TooMuchError is Fold's, and so Commit's, when events write more than a sink takes at once (Lot.Most): nothing was committed, and the first
// Fits of the events are to be committed by themselves.
type TooMuchError struct{ Fits int }

// Error says how many events are too many.
func (e *TooMuchError) Error() string {
	return fmt.Sprintf("%d events write more than is committed at once", e.Fits)
}

// Lot is what a sink must know of its parked events to fold on, and how much it takes.
type Lot struct {
	// Most bounds what is written, in bytes, where the recorder is Sized: what goes beyond ends with a *TooMuchError before the next
	// batch of the log. Zero is no bound.
	Most int
	// Waiting holds the streams that have parked events; their later events queue behind. Fold adds to it.
	Waiting map[eventstore.StreamID]bool
	// Skipped holds the positions of events that an operator said to skip.
	Skipped map[eventstore.Position]bool
}

// ParkedEvent is an event that Fold has parked, with the event itself for the sink to keep.
type ParkedEvent struct {
	Parked
	Event *eventstore.Recorded
}

// Fold applies events in order through the writer w, of which rec is the recorder. Events that cannot be applied, and
// those of streams that wait, are returned for the sink to keep within the same commit. An error is that of a context that has
// ended, of an archive that cannot be reached, or of a log that cannot be read, which says nothing of the event: nothing that was
// written counts, and the sink fails the commit with it.
//
// An event with which what counts in its stream is another is applied by taking back what was written of the stream, and writing
// what counts now. A skipped event writes nothing itself.
func Fold[W any](ctx context.Context, p *Projection[W], w W, rec Recorder, lot *Lot, events []eventstore.Recorded) ([]ParkedEvent, error) {
	var parked []ParkedEvent
	for i := range events {
		e := &events[i]
		if len(lot.Skipped) > 0 && lot.Skipped[e.Position] && !p.corrects(e) {
			continue
		}
		reason := ""
		if len(lot.Waiting) == 0 || !lot.Waiting[e.Stream] {
			rec.Begin(e.Position)
			mark := rec.Mark()
			err := p.take(ctx, w, rec, lot, e)
			if err == nil {
				if sized, ok := rec.(Sized); ok && lot.Most > 0 && i+1 < len(events) && !together(e, &events[i+1]) && sized.Size() > lot.Most {
					return nil, &TooMuchError{Fits: i + 1}
				}
				continue
			}
			var unread *unreadError
			if passing(err) || errors.As(err, &unread) {
				return nil, fmt.Errorf("apply event at %s: %w", e.Position, err)
			}
			rec.Undo(mark)
			reason = reasonOf(e, err)
			if lot.Waiting == nil {
				lot.Waiting = make(map[eventstore.StreamID]bool)
			}
			lot.Waiting[e.Stream] = true
		}
		parked = append(parked, ParkedEvent{
			Parked: Parked{Projection: p.Name, Stream: e.Stream, Position: e.Position, Type: e.Type, Reason: reason},
			Event:  e,
		})
	}
	return parked, nil
}

// together reports whether two events were appended at once.
func together(e, f *eventstore.Recorded) bool { return e.Dot.Log == f.Dot.Log && e.Batch == f.Batch }

// passing reports whether an error of Apply says nothing of the event.
func passing(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, eventstore.ErrArchiveUnavailable)
}

// withheld is the reason of an event that may have put personal data into the error. Reasons are kept, logged and shown.
const withheld = "it cannot be applied; why is not said, for the event has personal data and the reason may repeat some"

// reasonOf returns why an event is parked.
func reasonOf(e *eventstore.Recorded, err error) string {
	var unknown *unknownError
	if e.Opened != nil && !e.Erased && !errors.As(err, &unknown) {
		return withheld
	}
	return err.Error()
}

// PlainParked returns what Sink.Commit returns of what Fold parked.
func PlainParked(events []ParkedEvent) []Parked {
	if len(events) == 0 {
		return nil
	}
	out := make([]Parked, len(events))
	for i := range events {
		out[i] = events[i].Parked
	}
	return out
}

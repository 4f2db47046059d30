package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// History says what of a stream counts, where several sites have written it. Package counting has one.
type History interface {
	// Change says what an event changes of what counts in its stream, as the log held it up to the event: whatever was received
	// since is left out. ordered asks for the order among the events that count too; else only for which of them do.
	//
	// An error that matches ErrUndecided parks the event. Any other says that the log could not be read: the commit fails, and is
	// tried again.
	Change(ctx context.Context, e *eventstore.Recorded, ordered bool) (Change, error)
}

// Change is what an event changes of what counts in its stream.
type Change struct {
	// Appends: the event counts behind all that counted before it, and changes nothing else. Before, After and Void are empty then.
	Appends bool
	// Version, where the order was asked for and the event Appends, is the version that the stream is at with it.
	Version uint64
	// Before has the events that counted before the event came. After has all events of the stream up to it, of which those in Void
	// do not count. Both are in canonical order. Where the order was asked for, Recorded.Version is the version that the stream is
	// at behind the event, up to the next that counts: the number of events that the log held of it, void ones among them.
	Before, After []eventstore.Recorded
	Void          map[eventstore.Dot]bool
}

// ErrUndecided: it cannot be said what of a stream counts. Reasons are not personal.
var ErrUndecided = errors.New("it cannot be said which events of the stream count")

// unreadError: the log could not be read.
type unreadError struct{ cause error }

func (e *unreadError) Error() string { return e.cause.Error() }
func (e *unreadError) Unwrap() error { return e.cause }

// alone reports whether all that the log has up to an event is of one log, so that the event was decided with the knowledge of
// all of it: of each log a dense prefix is held, and this one fills all places.
func alone(e *eventstore.Recorded) bool { return e.Dot.Seq == e.Position.LSN }

// KnewLog reports whether an event was decided with the knowledge of all that the log has before it, as far as the event alone
// tells: what its site had of other logs is held too, for it was received first, so it is enough to count. False says nothing.
func KnewLog(e *eventstore.Recorded) bool {
	known := e.Dot.Seq
	if len(e.Context) == 0 {
		for _, d := range e.Dep {
			if d.Log != e.Dot.Log {
				known += d.Seq
			}
		}
	}
	return known == e.Position.LSN
}

// corrects reports whether an event may change what its stream came to for the projection beyond what it says itself.
func (p *Projection[W]) corrects(e *eventstore.Recorded) bool {
	return p.History != nil && !alone(e) && slices.Contains(p.Categories, e.Stream.Category)
}

// wants reports whether Apply is called for events of a type.
func (p *Projection[W]) wants(typ string) bool {
	return len(p.Types) == 0 || slices.Contains(p.Types, typ)
}

// Touches reports whether an event that Types does not have may change what others say, or is for a newer program. Sinks tell the
// runner, see Correcting.
func (p *Projection[W]) Touches(e *eventstore.Recorded) bool {
	return p.unknown(e) || p.corrects(e) && (e.Kind == eventstore.KindResolution || !KnewLog(e))
}

// unknown reports whether only a newer program can say what an event means for the model.
func (p *Projection[W]) unknown(e *eventstore.Recorded) bool {
	return p.Unknown != nil && slices.Contains(p.Categories, e.Stream.Category) && !slices.Contains(p.Types, e.Type) && p.Unknown(e)
}

// unknownError says why an event is parked that only a newer program knows. It says nothing personal.
type unknownError struct{ typ string }

func (e *unknownError) Error() string {
	return "a newer program has recorded " + e.typ + ", which this one does not know: it is applied by one that does"
}

// take applies an event through w, or corrects with it what was written of its stream.
func (p *Projection[W]) take(ctx context.Context, w W, rec Recorder, lot *Lot, e *eventstore.Recorded) error {
	skipped := lot.Skipped[e.Position]
	if !skipped && p.unknown(e) {
		return &unknownError{e.Type}
	}
	if !p.corrects(e) {
		if !p.wants(e.Type) { // it was parked, by a program that did not know it
			return nil
		}
		return p.Try(w, e)
	}
	_, rows := any(w).(Rows)
	c, err := p.History.Change(ctx, e, !rows && !slices.Contains(p.Unordered, e.Stream.Category))
	switch {
	case skipped && errors.Is(err, ErrUndecided):
		return nil
	case errors.Is(err, ErrUndecided):
		return err
	case err != nil:
		return &unreadError{err}
	case c.Appends && (skipped || !p.wants(e.Type)):
		return nil
	case c.Appends && c.Version != 0 && c.Version != e.Version:
		numbered := *e
		numbered.Version = c.Version
		return p.Try(w, &numbered)
	case c.Appends:
		return p.Try(w, e)
	}
	before, _, err := p.counted(lot, c.Before, nil)
	if err != nil {
		return err
	}
	after, void, err := p.counted(lot, c.After, c.Void)
	if err != nil {
		return err
	}
	if rows { // They are added up, so that only what differs has to be written.
		before, after = without(before, after), without(after, before)
		void = slices.DeleteFunc(void, func(x eventstore.Recorded) bool { return x.Dot != e.Dot })
	}
	if err := p.reversed(w, rec, before); err != nil {
		return err
	}
	// Some of what is written stays when it is taken back, such as a 0. So that all sites have it, in whatever order events came,
	// void ones are written and taken back as well.
	for i := range void {
		if err := p.applyAll(w, void[i:i+1]); err != nil {
			return err
		}
		if err := p.reversed(w, rec, void[i:i+1]); err != nil {
			return err
		}
	}
	return p.applyAll(w, after)
}

// reversed takes back what events have written.
func (p *Projection[W]) reversed(w W, rec Recorder, events []eventstore.Recorded) error {
	mark := rec.Mark()
	if err := p.applyAll(w, events); err != nil {
		return err
	}
	rec.Reverse(mark)
	return nil
}

func (p *Projection[W]) applyAll(w W, events []eventstore.Recorded) error {
	for i := range events {
		switch err := p.Try(w, &events[i]); {
		case err != nil && passing(err):
			return err
		case err != nil:
			return fmt.Errorf("event at %s of the stream: %s", events[i].Position, reasonOf(&events[i], err))
		}
	}
	return nil
}

// counted returns those of the events that the projection takes, as they read behind those before them, and those that are void.
func (p *Projection[W]) counted(lot *Lot, events []eventstore.Recorded, isVoid map[eventstore.Dot]bool) (counted, void []eventstore.Recorded, err error) {
	var behind []eventstore.Recorded
	for i := range events {
		e := events[i]
		taken := p.wants(e.Type) && !lot.Skipped[e.Position]
		switch {
		case isVoid[e.Dot]:
			if taken {
				void = append(void, e)
			}
			continue
		case taken && p.Rebase != nil:
			if err := p.Rebase(behind, &e); err != nil {
				return nil, nil, err
			}
		}
		if taken {
			counted = append(counted, e)
		}
		behind = append(behind, e)
	}
	return counted, void, nil
}

// without returns the events that are not among others, as they read.
func without(events, others []eventstore.Recorded) []eventstore.Recorded {
	said := make(map[eventstore.Dot][]byte, len(others))
	for i := range others {
		said[others[i].Dot] = others[i].Payload
	}
	return slices.DeleteFunc(slices.Clone(events), func(e eventstore.Recorded) bool {
		payload, ok := said[e.Dot]
		return ok && bytes.Equal(payload, e.Payload)
	})
}

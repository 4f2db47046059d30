package queries

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Log is the log that a site's read models are made of.
type Log interface {
	eventstore.Replica
	// Log names the log, and says how far it is durable.
	Log(ctx context.Context) (eventstore.LogState, error)
	// Subscribe follows the log.
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error)
}

// NotHereError: this site did not hold an event that a session token names when the wait was over. It is safe where it was recorded;
// only it has not come here yet. It is transient.
type NotHereError struct {
	// Want is the event, Held the seq up to which its log is here.
	Want eventstore.Dot
	Held uint64
}

// Error says how far the site is.
func (e *NotHereError) Error() string {
	return fmt.Sprintf("this site has %s up to event %d, it has not come to %d yet", e.Want.Log, e.Held, e.Want.Seq)
}

// NotYet marks the error for the server.
func (e *NotHereError) NotYet() bool { return true }

// Class tells callers to try again.
func (e *NotHereError) Class() eventstore.Class { return eventstore.Transient }

// Locate waits until a site's log holds all that a session token names, at most for the given time (zero: DefaultWait; more than
// MaxWait: MaxWait), and returns the position at which it has all of it: what Fresh waits for here. sites are those whose events may
// still come here: what the log holds is found whether its site is among them or not.
//
// Errors: *NotHereError when the wait was over; eventstore.ErrInvalid when the token names what is not here, of a site that is none of these, or a life that no log has;
// eventstore.ErrWrongIncarnation when it names what this log can never have: more of its own than it has; and ctx's error.
func Locate(ctx context.Context, log Log, sites []string, token eventstore.Vector, wait time.Duration) (eventstore.Position, error) {
	state, err := log.Log(ctx)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("locate session token: %w", err)
	}
	heads, err := log.Heads(ctx)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("locate session token: %w", err)
	}
	for _, d := range token {
		own := d.Log.Site == state.ID.Site && d.Log.Shard == state.ID.Shard
		switch {
		case d.Log.Incarnation == 0:
			return eventstore.Position{}, fmt.Errorf("%w: session token: %s: the first life of a log is 1", eventstore.ErrInvalid, d)
		case seqIn(heads, d.Log) >= d.Seq: // it is here, whoever takes part now
		case !own && !slices.Contains(sites, d.Log.Site):
			return eventstore.Position{}, fmt.Errorf("%w: session token: site %q is none of those known here: %s", eventstore.ErrInvalid, d.Log.Site,
				strings.Join(append(slices.Clone(sites), state.ID.Site), ", "))
		case own && (d.Log.Incarnation > state.ID.Incarnation || d.Log == state.ID && d.Seq > state.Seq):
			return eventstore.Position{}, fmt.Errorf("session token: %s, and this is %s with %d events: %w", d, state.ID, state.Seq, eventstore.ErrWrongIncarnation)
		}
	}
	if wait <= 0 {
		wait = DefaultWait
	}
	waiting, cancel := context.WithTimeout(ctx, min(wait, MaxWait))
	defer cancel()
	if missing, err := await(waiting, log, state.Durable, token); err != nil {
		if missing != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return eventstore.Position{}, missing
		}
		return eventstore.Position{}, fmt.Errorf("locate session token: %w", err)
	}
	at := eventstore.Position{Incarnation: state.ID.Incarnation}
	for _, d := range token {
		p, err := place(ctx, log, d)
		if err != nil {
			return at, fmt.Errorf("locate event %s of a session token: %w", d, err)
		}
		at.LSN = max(at.LSN, p.LSN)
	}
	return at, nil
}

// await returns when the log, which was durable up to a position, holds all that is named; or what is missing, with the error that
// ended the wait.
func await(ctx context.Context, log Log, durable eventstore.Position, token eventstore.Vector) (*NotHereError, error) {
	missing, err := lacks(ctx, log, token)
	if missing == nil || err != nil {
		return nil, err
	}
	sub, err := log.Subscribe(ctx, durable, eventstore.Filter{})
	if err != nil {
		return missing, err
	}
	defer sub.Close()
	for {
		if _, err := sub.Next(ctx); err != nil {
			return missing, err
		}
		still, err := lacks(ctx, log, token)
		if err != nil || still == nil {
			return missing, err
		}
		missing = still
	}
}

// lacks returns something that is named and not held; nil when all is.
func lacks(ctx context.Context, log Log, token eventstore.Vector) (*NotHereError, error) {
	heads, err := log.Heads(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range token {
		if held := seqIn(heads, d.Log); held < d.Seq {
			return &NotHereError{Want: d, Held: held}, nil
		}
	}
	return nil, nil
}

// seqIn returns how much of a log is held.
func seqIn(heads []eventstore.LogHead, log eventstore.LogID) uint64 {
	for i := range heads {
		if heads[i].Log == log {
			return heads[i].Seq
		}
	}
	return 0
}

// place returns where an event that is held stands in the log. What was dropped every reader has had.
func place(ctx context.Context, log Log, d eventstore.Dot) (eventstore.Position, error) {
	if d.Seq == 0 {
		return eventstore.Position{}, nil
	}
	for e, err := range log.ReadLog(ctx, d.Log, d.Seq-1) {
		if errors.Is(err, eventstore.ErrTruncated) {
			return eventstore.Position{}, nil
		}
		return e.Position, err
	}
	return eventstore.Position{}, fmt.Errorf("%w: it is held, and there is none", eventstore.ErrCorrupt)
}

// Session returns what an answer that is given now may rest on: all that the log holds.
func Session(ctx context.Context, log Log) (eventstore.Vector, error) {
	heads, err := log.Heads(ctx)
	if err != nil {
		return nil, fmt.Errorf("make session token: %w", err)
	}
	var v eventstore.Vector
	for _, h := range heads {
		if h.Seq > 0 {
			v = append(v, eventstore.Dot{Log: h.Log, Seq: h.Seq})
		}
	}
	return v, nil
}

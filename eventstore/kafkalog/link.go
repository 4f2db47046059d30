package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Link reads the topic of another site for one who holds a part of its log, and takes events in any order. So it does not
// stop where events are missing, as a Reader does: what came is given, and whoever takes it sees what is missing, and has it
// from elsewhere. Its methods are safe for concurrent use.
type Link struct {
	o       Options
	problem atomic.Pointer[error]
}

// Problem returns why the topic is not followed at present, while Follow tries again; nil when it is, or nobody follows it.
func (l *Link) Problem() error {
	if err := l.problem.Load(); err != nil {
		return *err
	}
	return nil
}

// NewLink returns a link over a topic. Options.Topic and Options.Brokers are required.
func NewLink(o Options) (*Link, error) {
	o, err := o.withDefaults(eventstore.LogID{})
	if err != nil {
		return nil, err
	}
	if o.Feed {
		return nil, fmt.Errorf("%w: sites replicate from topics of own events, not from feeds", eventstore.ErrInvalid)
	}
	return &Link{o: o}, nil
}

// Follow gives events what the topic has after that which held says is held, in the order of the topic and in pieces of
// what comes at once, and said how far the log was copied, as its heartbeats tell. It gives the next when they have returned, and ends
// with their errors, else with ctx. Broken connections, and a topic that is made anew, cut or emptied while it is read, make
// it begin again behind what is held by then.
//
// Events are checked against their checksums, one by one; one that does not verify is left out. Chain is not filled.
func (l *Link) Follow(ctx context.Context, held func(context.Context) ([]eventstore.LogHead, error),
	events func(context.Context, []eventstore.Recorded) error, said func(context.Context, eventstore.LogHead) error,
) error {
	logger := l.o.Logger.With("topic", l.o.Topic, "partition", l.o.Partition)
	pauses := backoff{max: l.o.MaxBackoff}
	var size fetchSize
	defer l.problem.Store(nil)
	for down := (time.Time{}); ; {
		s := linkSession{o: &l.o, events: events, said: said, size: &size, begun: func() {
			pauses.reset()
			l.problem.Store(nil)
			if !down.IsZero() {
				logger.Info("link is back", "after", time.Since(down).Round(time.Millisecond))
				down = time.Time{}
			}
		}}
		err := s.run(ctx, held)
		var taker *takerError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &taker):
			return taker.error
		case down.IsZero():
			down = time.Now()
			logger.Warn("link is interrupted and tries again", "error", err)
		}
		l.problem.Store(&err)
		select {
		case <-time.After(pauses.pause()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takerError is an error of who takes what a link gives.
type takerError struct{ error }

// linkSession reads over one connection.
type linkSession struct {
	o      *Options
	held   map[eventstore.LogID]uint64 // seq
	events func(context.Context, []eventstore.Recorded) error
	said   func(context.Context, eventstore.LogHead) error
	size   *fetchSize
	begun  func()
	dec    decoder
}

func (s *linkSession) run(ctx context.Context, held func(context.Context) ([]eventstore.LogHead, error)) error {
	heads, err := held(ctx)
	if err != nil {
		return &takerError{err}
	}
	s.held = heldOf(heads)
	c := connect(s.o)
	c.lenient = true // a record that does not verify is left out when its turn comes
	defer c.close()
	offset, err := s.locate(ctx, c)
	if err != nil {
		return err
	}
	// The next records come while those before are taken.
	ctx, cancel := context.WithCancel(ctx)
	fetched := make(chan fetched, 2)
	go s.fetch(ctx, c, offset, fetched)
	defer func() {
		cancel()
		for range fetched { // fetch closes it when it is done
		}
	}()
	for f := range fetched {
		if f.err != nil {
			return f.err
		}
		if s.begun != nil {
			s.begun()
			s.begun = nil
		}
		if err := s.take(ctx, f.records); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fetched is what one fetch has brought.
type fetched struct {
	records []Record
	err     error
}

// fetch fetches from an offset on until it fails. It closes out at its end.
func (s *linkSession) fetch(ctx context.Context, c *connection, offset int64, out chan<- fetched) {
	defer close(out)
	for {
		records, _, err := c.fetch(ctx, offset, s.size.bytes(), readWait)
		s.size.learn(err)
		if n := len(records); n > 0 {
			offset = records[n-1].Offset + 1
		}
		select {
		case out <- fetched{records, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// locate returns the offset before which all events are held. A life that is over may be held in part while a later one is
// held too: it is looked for in the first that is not held to its end.
func (s *linkSession) locate(ctx context.Context, c *connection) (int64, error) {
	low, high, err := c.offsets(ctx)
	if err != nil {
		return 0, err
	}
	// What keeps the end from being read is tried again: without the lives of the log its earlier ones would be taken for held.
	t, found, err := c.findTail(ctx, low, high, func(int64, Entry) error { return nil })
	if err != nil {
		return 0, err
	}
	if found && t.log().Incarnation > 1 {
		lives, err := c.lives(ctx, low, high)
		if err != nil {
			return 0, err
		}
		for _, l := range slices.Backward(lives) {
			if s.held[l.last.Log] < l.last.Seq {
				low, high = l.from, l.to
				break
			}
		}
	}
	for low < high {
		middle := low + (high-low)/2
		at, held, err := s.firstHeld(ctx, c, middle, high)
		switch {
		case err != nil:
			return 0, err
		case at < 0 || !held:
			high = middle
		default:
			low = at + 1
		}
	}
	return low, nil
}

// firstHeld returns the offset of the first event or heartbeat between two offsets, -1 if there is none, and whether
// everything up to there is held.
func (s *linkSession) firstHeld(ctx context.Context, c *connection, from, to int64) (at int64, held bool, err error) {
	for from < to {
		records, _, err := c.fetch(ctx, from, minFetchBytes, readWait)
		if err != nil {
			return 0, false, err
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if r.Offset >= to {
				return -1, false, nil
			}
			from = r.Offset + 1
			if d, ok := sequence(r.Headers); ok {
				return r.Offset, d.Seq <= s.held[d.Log], nil
			}
			if recordKind(r.Headers) != recordHeartbeat {
				continue
			}
			if entry, err := s.dec.decode(r); err == nil {
				d := entry.(*Heartbeat).Mirrored
				return r.Offset, d.Seq <= s.held[d.Log], nil
			}
		}
	}
	return -1, false, nil
}

// take gives what came at once.
func (s *linkSession) take(ctx context.Context, records []Record) error {
	events := make([]eventstore.Recorded, 0, len(records))
	give := func() error {
		if len(events) == 0 {
			return nil
		}
		if err := s.events(ctx, events); err != nil {
			return &takerError{err}
		}
		events = nil // whoever took them has them
		return nil
	}
	for i := range records {
		r := &records[i]
		switch kind := recordKind(r.Headers); kind {
		case headerDot:
			events = append(events, eventstore.Recorded{})
			e := &events[len(events)-1]
			if err := s.dec.event(*r, e); err != nil {
				s.o.Logger.Warn("link leaves out a record that does not verify", "topic", s.o.Topic, "offset", r.Offset, "error", err)
				events = events[:len(events)-1]
			} else if e.Dot.Seq <= s.held[e.Dot.Log] {
				events = events[:len(events)-1]
			}
		case recordHeartbeat:
			entry, err := s.dec.mark(*r, kind)
			if err != nil {
				s.o.Logger.Warn("link leaves out a heartbeat that does not make sense", "topic", s.o.Topic, "offset", r.Offset, "error", err)
				continue
			}
			if err := give(); err != nil {
				return err
			}
			h := entry.(*Heartbeat)
			if err := s.said(ctx, eventstore.LogHead{Log: h.Mirrored.Log, Seq: h.Mirrored.Seq, HLC: h.HLC, Chain: h.Chain}); err != nil {
				return &takerError{err}
			}
		}
	}
	return give()
}

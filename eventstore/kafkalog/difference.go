package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// differences names the parts of a record that are not as they should be.
func differences(want, got Record) (parts []string) {
	if !bytes.Equal(want.Key, got.Key) {
		parts = append(parts, fmt.Sprintf("key is %q, should be %q", clip(got.Key), clip(want.Key)))
	}
	if !bytes.Equal(want.Value, got.Value) {
		parts = append(parts, fmt.Sprintf("value of %d bytes differs from byte %d on, should have %d bytes", len(got.Value), firstDifference(want.Value, got.Value), len(want.Value)))
	}
	if !want.Time.Equal(got.Time) {
		parts = append(parts, fmt.Sprintf("time is %s, should be %s", got.Time.UTC().Format(timeFormat), want.Time.UTC().Format(timeFormat)))
	}
	same := func(a, b Header) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }
	if slices.EqualFunc(want.Headers, got.Headers, same) {
		return parts
	}
	before := len(parts)
	rest := slices.Clone(got.Headers)
	for _, h := range want.Headers {
		if i := slices.IndexFunc(rest, func(g Header) bool { return same(h, g) }); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			continue
		}
		if i := slices.IndexFunc(rest, func(g Header) bool { return g.Key == h.Key }); i >= 0 {
			parts = append(parts, fmt.Sprintf("header %s is %q, should be %q", h.Key, clip(rest[i].Value), clip(h.Value)))
			rest = slices.Delete(rest, i, i+1)
			continue
		}
		parts = append(parts, fmt.Sprintf("header %s is missing", h.Key))
	}
	for _, h := range rest {
		parts = append(parts, fmt.Sprintf("header %s should not be there", h.Key))
	}
	if len(parts) == before {
		parts = append(parts, "headers stand in another order")
	}
	return parts
}

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// clip bounds what a fault shows of a value.
func clip(b []byte) []byte { return b[:min(len(b), 80)] }

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// before orders events of one shard by life and seq.
func before(a, b eventstore.Dot) bool {
	if a.Log.Incarnation != b.Log.Incarnation {
		return a.Log.Incarnation < b.Log.Incarnation
	}
	return a.Seq < b.Seq
}

// ownEvents walks a log's own events in order, those of earlier lives first. In the log itself some of an earlier life may stand
// behind ones of the present life: those that it had lost and got back from other sites.
//
// For a feed it walks all events, as they stand, and takes for the identity of an event its position, in place of a dot.
type ownEvents struct {
	ctx   context.Context
	store eventstore.Reader
	log   eventstore.LogID
	feed  bool
	seq   uint64 // of the last own event of the present life up to where the walk stands; kept for a feed

	event eventstore.Recorded // where the walk stands, if has
	has   bool

	from eventstore.Position // before the first event that was not dropped
	at   eventstore.Position // read so far
	last eventstore.Dot      // the last own event that was read
	// begun is where lives after the first begin in the log, as far as it was asked.
	begun map[eventstore.LogID]eventstore.Position
	pull  func() (eventstore.Recorded, error, bool)
	stop  func()
}

// dot returns the identity of the event where the walk stands.
func (o *ownEvents) dot() eventstore.Dot { return o.identity(&o.event) }

func (o *ownEvents) identity(e *eventstore.Recorded) eventstore.Dot {
	if o.feed {
		return o.dotAt(e.Position)
	}
	return e.Dot
}

// dotAt returns the identity, in a feed, of the event at a position.
func (o *ownEvents) dotAt(p eventstore.Position) eventstore.Dot {
	d := eventstore.Dot{Log: o.log, Seq: p.LSN}
	d.Log.Incarnation = p.Incarnation
	return d
}

// beginBehind has the walk begin at the first own event behind a position.
func (o *ownEvents) beginBehind(p eventstore.Position) error {
	o.close()
	o.from, o.at = p, p
	for e, err := range o.store.ReadAll(o.ctx, o.from, eventstore.Filter{}) {
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		switch {
		case o.feed && e.Dot.Log == o.log:
			o.seq = e.Dot.Seq - 1
			return o.next()
		case !o.feed && o.ours(&e):
			o.last = eventstore.Dot{Log: e.Dot.Log, Seq: e.Dot.Seq - 1}
			return o.next()
		}
	}
	if o.feed {
		return o.next()
	}
	return nil
}

// next goes to the next own event; has is false at the durable end. Later calls see what has become durable since.
func (o *ownEvents) next() error {
	for fresh := false; ; {
		if o.pull == nil {
			events, err := o.rest()
			if err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
			o.pull, o.stop = iter.Pull2(events)
			fresh = true
		}
		e, err, ok := o.pull()
		switch {
		case !ok && fresh:
			o.close()
			o.has = false
			return nil
		case !ok:
			o.close()
			continue
		case err != nil:
			return fmt.Errorf("read the log: %w", err)
		}
		o.at = e.Position
		if e.Dot.Log == o.log {
			o.seq = e.Dot.Seq
		}
		if o.feed || o.ours(&e) {
			o.event, o.has, o.last = e, true, e.Dot
			return nil
		}
	}
}

// rest returns the events behind the last one: life by life where there are several, else as they stand.
func (o *ownEvents) rest() (iter.Seq2[eventstore.Recorded, error], error) {
	replica, ok := o.store.(eventstore.Replica)
	if !ok || o.feed {
		return o.store.ReadAll(o.ctx, o.at, eventstore.Filter{Chain: true}), nil
	}
	heads, err := replica.Heads(o.ctx)
	if err != nil {
		return nil, err
	}
	var lives []eventstore.LogID // in the order of their incarnations
	for _, h := range heads {
		if h.Log.Site == o.log.Site && h.Log.Shard == o.log.Shard {
			lives = append(lives, h.Log)
		}
	}
	if len(lives) == 1 {
		return o.store.ReadAll(o.ctx, o.at, eventstore.Filter{Chain: true}), nil
	}
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, life := range lives {
			after := uint64(0)
			switch {
			case life.Incarnation < o.last.Log.Incarnation:
				continue
			case life == o.last.Log:
				after = o.last.Seq
			}
			for e, err := range replica.ReadLog(o.ctx, life, after) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}, nil
}

// regained reports whether an event of an earlier life stands in the log behind one of a later life: it had been lost, and
// came back from another site. A mirror writes none of those.
func (o *ownEvents) regained(e *eventstore.Recorded) (bool, error) {
	replica, ok := o.store.(eventstore.Replica)
	if !ok || o.feed || e.Dot.Log.Incarnation == o.log.Incarnation {
		return false, nil
	}
	heads, err := replica.Heads(o.ctx)
	if err != nil {
		return false, fmt.Errorf("ask how far the log is held: %w", err)
	}
	for _, h := range heads {
		if !o.ours(&eventstore.Recorded{Dot: eventstore.Dot{Log: h.Log}}) || h.Log.Incarnation <= e.Dot.Log.Incarnation {
			continue
		}
		at, known := o.begun[h.Log]
		if !known {
			for first, err := range replica.ReadLog(o.ctx, h.Log, 0) {
				if errors.Is(err, eventstore.ErrTruncated) { // it began before what is left
					at = o.from
					break
				}
				if err != nil {
					return false, fmt.Errorf("read the log: %w", err)
				}
				at = first.Position
				break
			}
			if at.IsZero() {
				continue // it has no event yet
			}
			if o.begun == nil {
				o.begun = map[eventstore.LogID]eventstore.Position{}
			}
			o.begun[h.Log] = at
		}
		if at.LSN < e.Position.LSN {
			return true, nil
		}
	}
	return false, nil
}

func (o *ownEvents) ours(e *eventstore.Recorded) bool {
	return e.Dot.Log.Site == o.log.Site && e.Dot.Log.Shard == o.log.Shard
}

func (o *ownEvents) close() {
	if o.stop != nil {
		o.stop()
		o.pull, o.stop = nil, nil
	}
}

// find returns the own event with a dot, wherever the walk stands. The position that a record of it gives is a hint.
func (o *ownEvents) find(ctx context.Context, dot eventstore.Dot, r Record) (eventstore.Recorded, bool, error) {
	if at, ok := positionOf(r.Headers); ok && at.LSN > 0 { // lsns go on from life to life
		e, found, err := o.first(ctx, eventstore.Position{Incarnation: o.log.Incarnation, LSN: at.LSN - 1}, dot, true)
		if err == nil && found {
			return e, true, nil
		}
	}
	return o.first(ctx, o.from, dot, false)
}

// first looks for an event after a position; with only, it must be the first one.
func (o *ownEvents) first(ctx context.Context, after eventstore.Position, dot eventstore.Dot, only bool) (eventstore.Recorded, bool, error) {
	for e, err := range o.store.ReadAll(ctx, after, eventstore.Filter{}) {
		switch {
		case errors.Is(err, eventstore.ErrWrongIncarnation):
			return e, false, nil
		case err != nil:
			return e, false, fmt.Errorf("read the log: %w", err)
		case o.identity(&e) == dot:
			return e, true, nil
		case only:
			return e, false, nil
		}
	}
	return eventstore.Recorded{}, false, nil
}

// gap is a run of seqs of one life of the log.
type gap struct {
	log         eventstore.LogID
	first, last uint64
}

// gaps is a sorted set of events.
type gaps []gap

// add puts in an event that comes after all that are in.
func (g *gaps) add(d eventstore.Dot) {
	if n := len(*g); n > 0 && (*g)[n-1].log == d.Log && (*g)[n-1].last+1 == d.Seq {
		(*g)[n-1].last = d.Seq
		return
	}
	*g = append(*g, gap{d.Log, d.Seq, d.Seq})
}

// remove takes an event out and reports whether it was in.
func (g *gaps) remove(d eventstore.Dot) bool {
	for i, x := range *g {
		if x.log != d.Log || d.Seq < x.first || d.Seq > x.last {
			continue
		}
		var parts gaps
		if x.first < d.Seq {
			parts = append(parts, gap{x.log, x.first, d.Seq - 1})
		}
		if d.Seq < x.last {
			parts = append(parts, gap{x.log, d.Seq + 1, x.last})
		}
		*g = slices.Replace(*g, i, i+1, parts...)
		return true
	}
	return false
}

func (g gaps) count() (n uint64) {
	for _, x := range g {
		n += x.last - x.first + 1
	}
	return n
}

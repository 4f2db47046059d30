package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Ends says how the topic of a mirror's store ends: for each life of the log that it has records of the last event, with
// the log's hash chain after it, seq 0 for one that has none. Of a life that is over, the events of a batch that is not whole
// do not count. A topic that is not there tells nothing. Of the present life it tells what the log may lack only before the mirror has
// run; then what it was given just now. answered, when not nil, is called after each answer of the brokers on the way.
func (m *Mirror) Ends(ctx context.Context, answered func()) ([]eventstore.LogHead, error) {
	o, log, err := m.optionsOf(ctx)
	if err != nil {
		return nil, err
	}
	c := connect(&o)
	defer c.close()
	c.answered = answered
	if there, err := c.topicExists(ctx); err != nil || !there {
		return nil, err
	}
	start, end, err := c.offsets(ctx)
	if err != nil {
		return nil, err
	}
	lives, err := c.lives(ctx, start, end)
	var ends []eventstore.LogHead
	for i, l := range lives {
		head, err := c.lifeEnd(ctx, start, l.to, i > 0)
		if err != nil {
			return ends, err
		}
		if head.Log.Site != log.Site || head.Log.Shard != log.Shard {
			return nil, fmt.Errorf("%w: the topic %s has events of %s, this is %s", ErrForked, o.Topic, head.Log, log)
		}
		if ends = append(ends, head); head.Log.Incarnation != l.life {
			present := log
			present.Incarnation = l.life
			ends = append(ends, eventstore.LogHead{Log: present, Chain: eventstore.ChainStart(present)})
		}
	}
	return ends, err
}

// optionsOf returns the options for the log of the mirror's store, and what that is called.
func (m *Mirror) optionsOf(ctx context.Context) (Options, eventstore.LogID, error) {
	state, err := m.store.Log(ctx)
	if err != nil {
		return Options{}, eventstore.LogID{}, fmt.Errorf("ask for the log's name: %w", err)
	}
	o, err := m.options.withDefaults(state.ID)
	return o, state.ID, err
}

// writtenLife is the part of a topic that was written in one life of its log.
type writtenLife struct {
	life     uint32
	from, to int64          // offsets
	last     eventstore.Dot // of the last event up to there
}

// lives returns the lives that the records between two offsets were written in, the last one first.
func (c *connection) lives(ctx context.Context, start, end int64) (lives []writtenLife, err error) {
	for start < end {
		t, found, err := c.findTail(ctx, start, end, func(int64, Entry) error { return nil })
		if err != nil || !found {
			return lives, err
		}
		l := writtenLife{life: t.log().Incarnation, to: end, last: t.dot()}
		if l.from = start; l.life > 1 { // else there is none before
			if l.from, err = c.lifeBegins(ctx, start, end, l.life); err != nil {
				return lives, err
			}
		}
		lives = append(lives, l)
		end = l.from
	}
	return lives, nil
}

// lifeEnd returns the last event of the life at whose end an offset is, or of those before it when it has none.
func (c *connection) lifeEnd(ctx context.Context, start, end int64, over bool) (eventstore.LogHead, error) {
	t, found, err := c.findTail(ctx, start, end, func(int64, Entry) error { return nil })
	if err != nil || !found {
		return eventstore.LogHead{}, err
	}
	if h := t.heartbeat; h != nil && (!over || h.Mirrored.Seq == 0) {
		return eventstore.LogHead{Log: h.Mirrored.Log, Seq: h.Mirrored.Seq, HLC: h.HLC, Chain: h.Chain}, nil
	}
	return c.chainedEnd(ctx, start, t.offset+1, over)
}

// chainedEnd returns the last event before an offset with the chain after it, which the last heartbeat before it tells,
// and the events in between.
func (c *connection) chainedEnd(ctx context.Context, start, end int64, over bool) (eventstore.LogHead, error) {
	var d decoder
	var frame framer
	for window := int64(256); ; window *= 8 {
		from := max(start, end-window)
		var head, whole eventstore.LogHead
		known := false // head is the topic's, and its chain is known
		torn := false  // the last event is not the end of its batch
		for record, err := range c.records(ctx, from, end) {
			if err != nil {
				return head, err
			}
			entry, err := d.decode(record)
			if err != nil && !errors.Is(err, ErrForeign) {
				return head, err
			}
			switch e := entry.(type) {
			case *Heartbeat:
				if !known && !torn {
					head, known = eventstore.LogHead{Log: e.Mirrored.Log, Seq: e.Mirrored.Seq, HLC: e.HLC, Chain: e.Chain}, true
					whole = head
				}
			case *Event:
				torn = !e.EndsBatch()
				begins := e.Dot.Seq == 1 && head.Log != e.Dot.Log
				if begins {
					head, known = eventstore.LogHead{Log: e.Dot.Log, Chain: eventstore.ChainStart(e.Dot.Log)}, true
				}
				if !known || e.Dot.Log == head.Log && e.Dot.Seq <= head.Seq {
					continue
				}
				content, _, err := eventstore.FrameContent(frame.of(&e.Recorded))
				if err != nil {
					return head, err
				}
				if e.Dot.Log != head.Log || e.Dot.Seq != head.Seq+1 {
					return head, fmt.Errorf("%w: event %s at offset %d follows seq %d of %s", ErrGap, e.Dot, record.Offset, head.Seq, head.Log)
				}
				head.Chain = eventstore.NextChain(head.Chain, e.Dot.Seq, e.HLC, e.Version, eventstore.ContentHash(content))
				head.Seq, head.HLC = e.Dot.Seq, e.HLC
				if !torn {
					whole = head
				}
			}
		}
		switch {
		case known && over:
			return whole, nil
		case known:
			return head, nil
		case from == start:
			return head, fmt.Errorf("%w: no heartbeat tells the hash chain of the events that are left", ErrGap)
		}
	}
}

// lifeBegins returns the offset of the first record between two that was written in a life, or in a later one.
func (c *connection) lifeBegins(ctx context.Context, start, end int64, life uint32) (int64, error) {
	low, high := start, end
	for low < high {
		middle := low + (high-low)/2
		t, found, err := c.findTail(ctx, low, middle+1, func(int64, Entry) error { return nil })
		switch {
		case err != nil:
			return 0, err
		case found && t.log().Incarnation >= life:
			high = t.offset
		default:
			low = middle + 1
		}
	}
	return low, nil
}

// Mirrored tells the last event that is in the topic, each time that there is a later one, until ctx ends or tell fails.
func (m *Mirror) Mirrored(ctx context.Context, tell func(context.Context, eventstore.Dot) error) error {
	var last eventstore.Dot
	for {
		m.mu.Lock()
		mirrored, changed := m.status.Mirrored, m.changed
		m.mu.Unlock()
		if mirrored != last && mirrored.Seq > 0 {
			last = mirrored
			if err := tell(ctx, mirrored); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

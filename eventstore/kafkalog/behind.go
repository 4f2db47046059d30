package kafkalog

import (
	"context"

	"github.com/tributary-es/tributary/eventstore"
)

// Behind returns up to which seq the topic of a mirror's store has whole batches of one life of its log, one behind the other, after what is
// held of it: to the end of the next one, for which it looks where a Link does, and which a Link would give. Anything is false when
// no event or heartbeat is in the topic, or it is not there.
func (m *Mirror) Behind(ctx context.Context, log eventstore.LogID, held []eventstore.LogHead) (through uint64, anything bool, err error) {
	o, _, err := m.optionsOf(ctx)
	if err != nil {
		return 0, false, err
	}
	c := connect(&o)
	c.lenient = true
	defer c.close()
	s := linkSession{o: &o, held: heldOf(held)}
	through = s.held[log]
	if there, err := c.topicExists(ctx); err != nil || !there {
		return through, false, err
	}
	start, end, err := c.offsets(ctx)
	if err != nil {
		return through, false, err
	}
	_, anything, err = c.findTail(ctx, start, end, func(int64, Entry) error { return nil })
	if err != nil || !anything {
		return through, anything, err
	}
	offset, err := s.locate(ctx, c)
	if err != nil {
		return through, anything, err
	}
	var e eventstore.Recorded
	next := through + 1
	for record, err := range c.recordsBy(ctx, offset, end, minFetchBytes) {
		if err != nil {
			return through, anything, err
		}
		if recordKind(record.Headers) != headerDot || s.dec.event(record, &e) != nil {
			continue // a link leaves it out as well
		}
		switch d := e.Dot; {
		case before(d, eventstore.Dot{Log: log, Seq: next}):
		case d.Log != log || d.Seq != next: // what is later stands behind
			return through, anything, nil
		case e.EndsBatch():
			return d.Seq, anything, nil
		default:
			next++
		}
	}
	return through, anything, nil
}

// heldOf returns up to which seq each log is held.
func heldOf(heads []eventstore.LogHead) map[eventstore.LogID]uint64 {
	held := make(map[eventstore.LogID]uint64, len(heads))
	for _, h := range heads {
		held[h.Log] = h.Seq
	}
	return held
}

package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/tributary-es/tributary/eventstore"
)

// sessionLife bounds a session, so that the brokers, which forget transactional ids that are not used for a week, do not
// forget this one while it writes: a forgotten id fences nobody.
var sessionLife = 12 * time.Hour

// markEvery is how often the checkpoint is saved while copying.
const markEvery = 5 * time.Second

var errSessionOld = errors.New("session is old")

// errTopicChanged: the topic was cut or made anew under the writer.
var errTopicChanged = errors.New("topic has lost records")

// writer is one run of a mirror. It is used by one goroutine.
//
// It holds the partition in sessions, each with a connection and a producer epoch of its own:
//
//	connect ─► topic ─► take over (epoch+1) ─► fence record ─► tail against log ─► copy …
//
// Any error ends the session, and the next one finds out what arrived. So a batch is never sent twice under one epoch, and
// a late one of an earlier epoch is refused: that the brokers recognize repeated sequence numbers, which they forget in a
// crash, is not needed.
type writer struct {
	mirror *Mirror
	store  eventstore.Reader
	o      Options
	log    eventstore.LogID
	name   string // of this run, in its fences
	logger *slog.Logger

	held       producer // identity of the last session
	sequence   int32    // of the next record in this session
	fence      int64    // offset of the session's fence
	written    int64    // offset after the last record that this writer was told is there; -1 before the first
	before     int64    // written as it was before the session's fence
	mark       Mark     // the last event known to be in the topic, and the offset after the last record
	batchBytes int
}

// session holds the partition until something goes wrong. It calls ready when it begins to copy.
func (w *writer) session(ctx context.Context, ready func()) error {
	c := connect(&w.o)
	defer c.close()
	faults, err := c.ensureTopic(ctx)
	if err != nil {
		return err
	}
	w.mirror.update(func(s *Status) {
		s.State = StateFencing
		if len(faults) > 0 && len(s.TopicFaults) == 0 {
			w.logger.Warn("topic's settings are weaker than they should be", "faults", faults)
		}
		s.TopicFaults = faults
	})
	if err := w.takeOver(ctx, c); err != nil {
		return err
	}
	from, err := w.resume(ctx, c)
	if err != nil {
		return err
	}
	ready()
	return w.copy(ctx, c, from)
}

// takeOver gets a new epoch and writes the fence.
func (w *writer) takeOver(ctx context.Context, c *connection) error {
	if err := w.checkStillHeld(ctx, c); err != nil {
		return err
	}
	p, err := c.initProducer(ctx, w.o.TransactionalID, w.held)
	switch {
	case w.held != noProducer && fenced(err):
		return fmt.Errorf("%w: %w", ErrFenced, err)
	case w.held != noProducer && forgotten(err):
		w.held = noProducer
		return err
	case err != nil:
		return err
	}
	w.held, w.sequence, w.before = p, 0, w.written
	var enc encoder
	record := enc.fence(&Fence{Log: w.log, Writer: w.name, ProducerID: p.id, ProducerEpoch: p.epoch, HLC: w.o.Clock.Shown()})
	b, err := encodeBatch([]Record{record}, 0)
	if err != nil {
		return err
	}
	if w.fence, err = w.send(ctx, c, b); err != nil {
		return err
	}
	w.mirror.update(func(s *Status) { s.Sessions++ })
	return nil
}

// checkStillHeld looks for the fence of another writer behind what this one wrote. Kafka itself refuses to give the
// identity back to one who lost it; a broker that does not, as the embedded one, is covered here.
func (w *writer) checkStillHeld(ctx context.Context, c *connection) error {
	if w.written < 0 {
		return nil
	}
	start, end, err := c.offsets(ctx)
	if err != nil {
		return err
	}
	for record, err := range c.records(ctx, max(start, w.written), end) {
		if err != nil {
			return err
		}
		if entry, err := Decode(record); err == nil {
			if f, ok := entry.(*Fence); ok && f.Writer != w.name {
				return fmt.Errorf("%w: fence of writer %s at offset %d", ErrFenced, f.Writer, record.Offset)
			}
		}
	}
	return nil
}

// send produces a batch under the session's identity.
func (w *writer) send(ctx context.Context, c *connection, b batch) (offset int64, err error) {
	b.sign(w.held, w.sequence)
	w.mirror.silence.begin()
	offset, err = c.produce(ctx, b)
	w.mirror.silence.end()
	switch {
	case err == nil:
	case fenced(err):
		return 0, fmt.Errorf("%w: %w", ErrFenced, err)
	default:
		// Whether the batch arrived is for the next session to find out; so it is for a sequence that the brokers call
		// repeated (it is there) or out of order (they know less of this producer than they should).
		return 0, err
	}
	w.written = offset + int64(b.records)
	w.sequence += b.records // a session ends long before this overflows: see full
	return offset, nil
}

// full reports whether the session's sequence numbers are nearly used up.
func (w *writer) full() bool { return w.sequence > 1<<31-1<<20 }

// saveMark keeps the mark, best effort.
func (w *writer) saveMark() {
	if w.o.Checkpoint == nil || w.mark.Topic == "" {
		return
	}
	if err := w.o.Checkpoint.Save(w.mark); err != nil {
		w.logger.Warn("mirror's checkpoint is not saved", "error", err)
	}
}

// tooLarge reports whether a broker refused a batch for its size.
func tooLarge(err error) bool {
	return errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge)
}

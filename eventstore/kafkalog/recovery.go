package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Recovery gives a log back from its topic, to a store that has lost it. From Recover on no mirror of before writes to the
// partition: a node that is still alive somewhere is fenced, so that what is read is all there will be of its log.
//
// It is used by one goroutine.
type Recovery struct {
	// Records are the topic's records so far, Events those that gave an event, Repeated those of an event that had been
	// there, Torn the events of batches that the topic has a part of, Foreign those that no mirror wrote.
	Records, Events, Repeated, Torn, Foreign uint64

	o     Options
	log   eventstore.LogID
	held  producer
	start int64
	end   int64
}

// silentShare is the part of the patience for which it is not worth a word that no broker has answered.
const silentShare = 20

// Recover takes over the partition of a shard: site and shard of the log count. Errors: eventstore.ErrNotFound when there
// is no such topic, eventstore.ErrUnavailable when no broker answers.
func Recover(ctx context.Context, log eventstore.LogID, o Options) (*Recovery, error) {
	o, err := o.withDefaults(log)
	if err == nil && o.Feed {
		err = fmt.Errorf("%w: a log is restored from the topic of its own events, not from a feed", eventstore.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("recover from kafka: %w", err)
	}
	r := &Recovery{o: o, log: log, held: noProducer}
	say := time.AfterFunc(o.Patience/silentShare, func() {
		o.Logger.Warn("no broker has answered yet", "brokers", o.Brokers, "given_up_after", o.Patience)
	})
	defer say.Stop()
	err = r.try(ctx, func(c *connection) error {
		found, err := c.topicExists(ctx)
		if err != nil {
			return err
		}
		say.Stop()
		if !found {
			return fmt.Errorf("%w: there is no such topic", eventstore.ErrNotFound)
		}
		if r.held, err = c.initProducer(ctx, o.TransactionalID, r.held); err != nil {
			return err
		}
		r.start, r.end, err = c.offsets(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take over %s/%d: %w", o.Topic, o.Partition, err)
	}
	return r, nil
}

// try calls do with one connection after another until it works, its error is final or patience is over.
func (r *Recovery) try(ctx context.Context, do func(*connection) error) error {
	pauses := backoff{max: r.o.MaxBackoff}
	said := ""
	for begun := time.Now(); ; {
		c := connect(&r.o)
		err := do(c)
		c.close()
		switch {
		case err == nil, errors.Is(err, eventstore.ErrNotFound), errors.Is(err, eventstore.ErrCorrupt), errors.Is(err, ErrGap), errors.Is(err, errNotTaken):
			return err
		case fenced(err):
			return fmt.Errorf("%w: %w", ErrFenced, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(begun) > r.o.Patience:
			return fmt.Errorf("%w: the brokers %s have not answered for %s; are they up, and is the address right? %w",
				eventstore.ErrUnavailable, strings.Join(r.o.Brokers, ", "), time.Since(begun).Round(time.Second), err)
		}
		if said != err.Error() {
			said = err.Error()
			r.o.Logger.Warn("the topic is tried again", "cause", err, "given_up_after", r.o.Patience)
		}
		select {
		case <-time.After(pauses.pause()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Batches yields the log's own events from the first on, in the batches in which they were appended, each event once; a
// batch is the caller's. A part of a batch is left out: at the end, or where a life of the log ended with it. progress,
// when not nil, is called with offsets.
//
// Everything is checked that the topic tells: checksums, density of seqs in each life, that a life begins where the one
// before ended, and the hash chain at each heartbeat. Errors: ErrGap where something is missing, at the beginning too;
// eventstore.ErrCorrupt; eventstore.ErrUnavailable.
func (r *Recovery) Batches(ctx context.Context, progress func(done, total uint64)) iter.Seq2[[]eventstore.Recorded, error] {
	return func(yield func([]eventstore.Recorded, error) bool) {
		h := history{r: r, yield: yield}
		next := r.start
		for next < r.end {
			err := r.try(ctx, func(c *connection) error {
				for record, err := range c.records(ctx, next, r.end) {
					if err != nil {
						return err
					}
					if err := h.record(record); err != nil {
						return err
					}
					if next = record.Offset + 1; progress != nil && next%1000 == 0 {
						progress(uint64(next-r.start), uint64(r.end-r.start))
					}
				}
				next = r.end
				return nil
			})
			if errors.Is(err, errNotTaken) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("read %s/%d: %w", r.o.Topic, r.o.Partition, err))
				return
			}
		}
		r.Torn += uint64(len(h.batch))
	}
}

// history puts the log together from the topic's records.
type history struct {
	r     *Recovery
	yield func([]eventstore.Recorded, error) bool
	dec   decoder
	frame framer

	last  eventstore.Dot        // that was seen; zero Log before the first
	batch []eventstore.Recorded // the beginning of a batch that is not whole yet
	whole eventstore.Dot        // the last one of a whole batch, chain the hash chain after it
	chain eventstore.Hash
}

// record takes the next record of the topic.
func (h *history) record(r Record) error {
	h.r.Records++
	entry, err := h.dec.decode(r)
	switch e := entry.(type) {
	case *Event:
		return h.event(&e.Recorded, r.Offset)
	case *Heartbeat:
		if e.Mirrored == h.whole && len(h.batch) == 0 && e.Chain != h.chain && h.whole.Seq > 0 {
			return fmt.Errorf("%w: the heartbeat at offset %d says hash chain %x after event %s, the events give %x",
				eventstore.ErrCorrupt, r.Offset, e.Chain[:8], h.whole, h.chain[:8])
		}
		return nil
	case *Fence:
		return nil
	}
	if errors.Is(err, ErrForeign) {
		h.r.Foreign++
		return nil
	}
	return err
}

func (h *history) event(e *eventstore.Recorded, offset int64) error {
	log := e.Dot.Log
	if log.Site != h.r.log.Site || log.Shard != h.r.log.Shard {
		return fmt.Errorf("%w: event %s at offset %d is not of %s", eventstore.ErrCorrupt, e.Dot, offset, h.r.log)
	}
	missing := func(what string) error {
		return fmt.Errorf("%w: event %s at offset %d, lsn %d, %s", ErrGap, e.Dot, offset, e.Position.LSN, what)
	}
	switch {
	case log.Incarnation < h.last.Log.Incarnation, log == h.last.Log && e.Dot.Seq <= h.last.Seq:
		h.r.Repeated++
		return nil
	case log == h.last.Log && e.Dot.Seq != h.last.Seq+1, log != h.last.Log && e.Dot.Seq != 1:
		return missing(fmt.Sprintf("follows seq %d of incarnation %d", h.last.Seq, h.last.Log.Incarnation))
	case log != h.last.Log:
		h.r.Torn += uint64(len(h.batch)) // which the life before never completed
		h.batch = h.batch[:0]
		h.whole, h.chain = eventstore.Dot{Log: log}, eventstore.ChainStart(log)
		// Where the log has events of other logs, which are not here, the first event of a life says what it knows of those
		// before it.
		if e.Position.LSN != h.r.Events+1 && (len(e.Dep) == 0 || e.Dep.At(h.last.Log) > h.last.Seq) {
			return missing(fmt.Sprintf("begins a life of the log, before which %d events are here", h.r.Events))
		}
	}
	h.last = e.Dot
	h.batch = append(h.batch, *e)
	if !e.EndsBatch() {
		return nil
	}
	batch := h.batch
	h.batch = nil
	if first := batch[0]; first.Dot.Seq != e.Batch.FirstSeq || len(batch) != int(e.Batch.Count) {
		return fmt.Errorf("%w: the batch that ends with event %s at offset %d has %d events of %d", eventstore.ErrCorrupt, e.Dot, offset, len(batch), e.Batch.Count)
	}
	for i := range batch {
		b := &batch[i]
		content, _, err := eventstore.FrameContent(h.frame.of(b))
		if err != nil {
			return err
		}
		h.chain = eventstore.NextChain(h.chain, b.Dot.Seq, b.HLC, b.Version, eventstore.ContentHash(content))
	}
	h.whole = e.Dot
	h.r.Events += uint64(len(batch))
	if !h.yield(batch, nil) {
		return errNotTaken
	}
	return nil
}

// Claim makes it known in the topic that a life of the log begins, and returns its incarnation: the one that is given, or
// one more than the topic has seen. Mirrors and recoveries that come later find it.
func (r *Recovery) Claim(ctx context.Context, incarnation uint32) (uint32, error) {
	highest := uint32(0)
	err := r.try(ctx, func(c *connection) error {
		start, end, err := c.offsets(ctx)
		if err != nil {
			return err
		}
		t, found, err := c.findTail(ctx, start, end, func(_ int64, entry Entry) error {
			if f, ok := entry.(*Fence); ok {
				highest = max(highest, f.Log.Incarnation)
			}
			return nil
		})
		if found {
			highest = max(highest, t.log().Incarnation)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look for the topic's end: %w", err)
	}
	log := r.log
	log.Incarnation = max(incarnation, highest+1)
	var enc encoder
	record := enc.fence(&Fence{
		Log: log, Writer: strconv.FormatUint(rand.Uint64(), 16), ProducerID: r.held.id, ProducerEpoch: r.held.epoch, HLC: r.o.Clock.Shown(),
	})
	b, err := encodeBatch([]Record{record}, 0)
	if err != nil {
		return 0, err
	}
	b.sign(r.held, 0)
	// Once: a fence that arrived although its answer was lost costs an incarnation, of which there are enough.
	c := connect(&r.o)
	defer c.close()
	if _, err := c.produce(ctx, b); err != nil {
		if fenced(err) {
			err = fmt.Errorf("%w: %w", ErrFenced, err)
		}
		return 0, fmt.Errorf("claim incarnation %d in the topic: %w", log.Incarnation, err)
	}
	return log.Incarnation, nil
}

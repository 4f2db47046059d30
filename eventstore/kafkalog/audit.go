package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// maxFaults bounds the faults that a report names; all are counted.
const maxFaults = 100

// AuditReport is what Audit found. Events are told apart by identity, their dot; in a feed by their position.
type AuditReport struct {
	Topic     string
	Partition int
	// Records is the number of different events of the log that the topic holds.
	Records uint64
	// Dropped are records of events that the log has dropped for good: there is nothing to compare them with, and nothing tells what
	// of those is missing. They are not among Records.
	Dropped uint64
	// Earlier are records of a feed that were written in earlier lives of the log, which nobody reads any more.
	Earlier uint64
	// Missing events are in the log and not in the topic; Lag of them are at the end, where the mirror may not have come yet.
	Missing, Lag uint64
	// Duplicates are records of an event beyond its first; OutOfOrder are first records that stand too late in the topic.
	Duplicates, OutOfOrder uint64
	// Changed are records that differ from what the log's event gives, in key, value, time or any header.
	Changed uint64
	// Foreign are records that no mirror of this log wrote, or that cannot be read.
	Foreign uint64
	// Torn are events of batches that an earlier life of the log never completed in the topic, and that the restore from it
	// left out: no fault, since nobody was to apply them.
	Torn uint64
	// Regained are events of earlier lives that the topic does not have and need not: they had been lost with it, and came back
	// from other sites when the log had gone on in another life.
	Regained uint64
	// Fences and Heartbeats are records that are not events.
	Fences, Heartbeats uint64
	// Faults names the first of what is wrong, with seq and offset.
	Faults []string
}

// OK reports whether the topic is a copy of the log.
func (r *AuditReport) OK() bool {
	return r.Missing == 0 && r.Duplicates == 0 && r.OutOfOrder == 0 && r.Changed == 0 && r.Foreign == 0 && len(r.Faults) == 0
}

func (r *AuditReport) fault(format string, args ...any) {
	if len(r.Faults) < maxFaults {
		r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
	}
}

// Audit reads the whole topic and compares every record with the log's event of the same identity, byte for byte. It calls
// progress, when not nil, now and then with offsets. Faults are in the report; the error is for what kept it from looking:
// a broker that does not answer (ErrUnavailable), a topic that is not there (ErrNotFound), the store's errors.
//
// The log and the mirror may be at work meanwhile: what was durable when it began is what must be in the topic.
func Audit(ctx context.Context, store eventstore.Reader, o Options, progress func(done, total uint64)) (AuditReport, error) {
	state, err := store.Log(ctx)
	if err != nil {
		return AuditReport{}, fmt.Errorf("audit: %w", err)
	}
	if o, err = o.withDefaults(state.ID); err != nil {
		return AuditReport{}, fmt.Errorf("audit: %w", err)
	}
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	a := audit{
		store: store, o: o, state: state, progress: progress,
		report: AuditReport{Topic: o.Topic, Partition: o.Partition},
	}
	if err := a.run(ctx); err != nil {
		return a.report, fmt.Errorf("audit %s/%d: %w", o.Topic, o.Partition, err)
	}
	return a.report, nil
}

type audit struct {
	store    eventstore.Reader
	o        Options
	state    eventstore.LogState // of the beginning
	progress func(done, total uint64)
	report   AuditReport

	own     ownEvents
	begin   eventstore.Dot // the first event that the log has not dropped; zero when it has all
	missing gaps
	torn    []tornEvent         // records of a batch that is not in the log, and may never be whole
	last    eventstore.Recorded // the last own event that the topic was found to have, with its chain
	lastOwn eventstore.Dot      // what a heartbeat of a feed behind it has to say
	enc     encoder
	dec     decoder
	frame   framer
}

func (a *audit) run(ctx context.Context) error {
	a.own = ownEvents{ctx: ctx, store: a.store, log: a.state.ID, feed: a.o.Feed}
	defer a.own.close()
	if err := a.toBeginning(); err != nil {
		return err
	}
	for record, err := range a.records(ctx) {
		if err == nil {
			err = a.record(ctx, record)
		}
		if err != nil {
			return err
		}
	}
	a.neverWhole()
	return a.rest()
}

// toBeginning goes to the first own event that the log has.
func (a *audit) toBeginning() error {
	err := a.own.next()
	dropped, ok := errors.AsType[*eventstore.TruncatedError](err)
	if !ok {
		return err
	}
	a.own.seq = a.state.Seq
	if err := a.own.beginBehind(dropped.Before()); err != nil {
		return err
	}
	a.begin = a.end(&a.state)
	a.begin.Seq++
	if a.own.has {
		a.begin = a.own.dot()
	}
	return nil
}

// end returns the identity of the last event that is durable.
func (a *audit) end(state *eventstore.LogState) eventstore.Dot {
	if a.o.Feed {
		return a.own.dotAt(state.Durable)
	}
	return eventstore.Dot{Log: state.ID, Seq: state.Seq}
}

// name names an event by its identity.
func (a *audit) name(d eventstore.Dot) string {
	if a.o.Feed {
		return eventstore.Position{Incarnation: d.Log.Incarnation, LSN: d.Seq}.String()
	}
	return d.String()
}

// identity returns the identity that a record claims; false for one of no event of this log.
func (a *audit) identity(r Record) (eventstore.Dot, bool) {
	log := a.state.ID
	if !a.o.Feed {
		dot, ok := sequence(r.Headers)
		return dot, ok && dot.Log.Site == log.Site && dot.Log.Shard == log.Shard
	}
	own, err := a.dec.own(r)
	at, ok := positionOf(r.Headers)
	return a.own.dotAt(at), ok && err == nil && own.Log.Site == log.Site && own.Log.Shard == log.Shard
}

// records yields the topic's records up to its present end, over broken connections and damaged batches.
func (a *audit) records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		c := connect(&a.o)
		defer func() { c.close() }()
		start, end, err := c.offsets(ctx)
		if err != nil {
			yield(Record{}, a.unavailable(ctx, c, err))
			return
		}
		var size fetchSize
		for at, failures := start, 0; at < end; {
			records, _, err := c.fetch(ctx, at, size.bytes(), readWait)
			size.learn(err)
			switch {
			case ctx.Err() != nil:
				yield(Record{}, ctx.Err())
				return
			case errors.Is(err, eventstore.ErrCorrupt):
				next := a.behindDamage(ctx, at, end)
				a.report.Foreign++
				a.report.fault("offsets %d to %d cannot be read: %v", at, next-1, err)
				at = next
				c.close()
				c = connect(&a.o)
				continue
			case err != nil || len(records) == 0:
				if err == nil {
					err = errors.New("the broker answers without a record")
				}
				if failures++; failures > 10 {
					yield(Record{}, fmt.Errorf("%w: no record at offset %d of %d: %w", eventstore.ErrUnavailable, at, end, err))
					return
				}
				c.close()
				c = connect(&a.o)
				select {
				case <-time.After(200 * time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			failures = 0
			for _, r := range records {
				if r.Offset >= end {
					return
				}
				if !yield(r, nil) {
					return
				}
				at = r.Offset + 1
			}
			a.progress(uint64(at-start), uint64(end-start))
		}
	}
}

// unavailable tells a topic that is not there from brokers that do not answer.
func (a *audit) unavailable(ctx context.Context, c *connection, err error) error {
	if found, asked := c.topicExists(ctx); asked == nil && !found {
		return fmt.Errorf("%w: there is no such topic", eventstore.ErrNotFound)
	}
	return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
}

// behindDamage returns the first offset after one in a damaged batch from which the topic can be read again, or end.
func (a *audit) behindDamage(ctx context.Context, at, end int64) int64 {
	readable := func(offset int64) bool {
		c := connect(&a.o)
		defer c.close()
		_, _, err := c.fetch(ctx, offset, 1, readWait)
		return !errors.Is(err, eventstore.ErrCorrupt)
	}
	bad, step := at, int64(1)
	for bad+step < end && !readable(bad+step) {
		bad, step = bad+step, 2*step
	}
	good := min(bad+step, end)
	for bad+1 < good {
		if middle := bad + (good-bad)/2; readable(middle) {
			good = middle
		} else {
			bad = middle
		}
	}
	return good
}

// record judges one record of the topic.
func (a *audit) record(ctx context.Context, r Record) error {
	switch kind := recordKind(r.Headers); kind {
	case recordFence, recordHeartbeat:
		a.mark(r, kind)
		return nil
	case headerDot:
	default:
		a.report.Foreign++
		a.report.fault("record at offset %d was not written by a mirror", r.Offset)
		return nil
	}
	dot, ok := a.identity(r)
	if !ok {
		a.report.Foreign++
		a.report.fault("record at offset %d is of no event of this log: its %s is %q", r.Offset, headerDot, r.Headers[0].Value)
		return nil
	}
	switch {
	case a.o.Feed && dot.Log.Incarnation < a.state.ID.Incarnation:
		a.report.Earlier++
		return nil
	case before(dot, a.begin):
		a.report.Dropped++
		return nil
	}
	if !a.own.has { // what was at the log's end may have become durable since
		if err := a.own.next(); err != nil {
			return err
		}
	}
	if a.own.has && a.own.dot() == dot {
		return a.inOrder(r)
	}
	var e eventstore.Recorded
	corrupt := a.dec.event(r, &e)
	beyond, err := a.beyond(ctx, dot)
	switch {
	case err != nil:
		return err
	case corrupt != nil && (beyond || a.own.has && before(a.own.dot(), dot)):
		// What it claims to be is not to be relied on; least of all as the place where the topic has come to.
		a.report.Changed++
		a.report.fault("record at offset %d, which claims to be event %s, is changed: %v", r.Offset, a.name(dot), corrupt)
		return nil
	case beyond:
		a.report.Foreign++
		a.report.fault("event %s at offset %d is not in the log, which ends before it", a.name(dot), r.Offset)
		return nil
	case !a.own.has || before(dot, a.own.dot()):
		return a.repeated(ctx, r, dot)
	}
	// What the log has before this event, the topic should have had before this record.
	for a.own.has && before(a.own.dot(), dot) {
		if err := a.lacking(); err != nil {
			return err
		}
	}
	if a.own.has && a.own.dot() == dot {
		return a.inOrder(r)
	}
	return a.repeated(ctx, r, dot)
}

// lacking takes note that the topic does not have the event that the walk through the log stands at.
func (a *audit) lacking() error {
	regained, err := a.own.regained(&a.own.event)
	if err != nil {
		return err
	}
	if regained {
		a.report.Regained++
	} else {
		a.missing.add(a.own.dot())
	}
	return a.own.next()
}

// inOrder judges the record of the event that the walk through the log stands at.
func (a *audit) inOrder(r Record) error {
	a.neverWhole()
	a.lastOwn = eventstore.Dot{Log: a.state.ID, Seq: a.own.seq}
	a.found(r, &a.own.event, a.lastOwn)
	a.last = a.own.event
	return a.own.next()
}

// beyond reports whether an event would lie behind the log's durable end.
func (a *audit) beyond(ctx context.Context, dot eventstore.Dot) (bool, error) {
	state, err := a.store.Log(ctx)
	if err != nil {
		return false, fmt.Errorf("ask for the log's end: %w", err)
	}
	return before(a.end(&state), dot), nil
}

// repeated judges a record whose event's place in the order has passed.
func (a *audit) repeated(ctx context.Context, r Record, dot eventstore.Dot) error {
	event, found, err := a.own.find(ctx, dot, r)
	if err != nil {
		return err
	}
	own, _ := a.dec.own(r) // as it is: the walk through the log does not stand there
	switch {
	case !found:
		a.leftOut(r, dot)
	case a.missing.remove(dot):
		a.report.OutOfOrder++
		a.report.fault("event %s stands too late, at offset %d", a.name(dot), r.Offset)
		a.found(r, &event, own)
	default:
		a.report.Duplicates++
		a.report.fault("event %s is there again at offset %d", a.name(dot), r.Offset)
		a.compare(r, &event, own)
	}
	return nil
}

// tornEvent is a record of an event that is not in the log.
type tornEvent struct {
	dot    eventstore.Dot
	offset int64
}

// leftOut judges a record whose event is not in the log. Of an earlier life it may be the beginning of a batch that was
// never whole; that shows when the batch ends, or something else follows.
func (a *audit) leftOut(r Record, dot eventstore.Dot) {
	var e eventstore.Recorded
	err := a.dec.event(r, &e)
	a.torn = append(a.torn, tornEvent{dot, r.Offset})
	if err == nil && dot.Log.Incarnation < a.state.ID.Incarnation && !e.EndsBatch() && len(a.torn) == int(dot.Seq-e.Batch.FirstSeq)+1 {
		return
	}
	for _, t := range a.torn {
		a.report.Foreign++
		a.report.fault("event %s at offset %d is not in the log", a.name(t.dot), t.offset)
	}
	a.torn = nil
}

// neverWhole counts the beginning of a batch behind which something else stands, or nothing.
func (a *audit) neverWhole() {
	a.report.Torn += uint64(len(a.torn))
	a.torn = nil
}

// found counts an event's first record and compares it.
func (a *audit) found(r Record, e *eventstore.Recorded, own eventstore.Dot) {
	a.report.Records++
	a.compare(r, e, own)
}

// compare holds a record against the one that the log's event gives. The record may have been written in any life of the
// log since the event's own, which shows in the incarnation of its position. In a feed it says which is the last own event.
func (a *audit) compare(r Record, e *eventstore.Recorded, own eventstore.Dot) {
	a.enc.reset()
	if a.o.Feed {
		a.enc.own = own
	}
	want := *e
	if at, ok := positionOf(r.Headers); ok && at.Incarnation >= e.Dot.Log.Incarnation && at.Incarnation < want.Position.Incarnation {
		want.Position.Incarnation = at.Incarnation
		if e.Dot.Log.Incarnation < a.state.ID.Incarnation {
			want.Position.LSN = at.LSN // it was lost, and may have come back from another site, to another place
		}
	}
	if diff := differences(a.enc.event(&want, a.frame.of(e)), r); len(diff) > 0 {
		a.report.Changed++
		a.report.fault("event %s at offset %d is changed: %s", a.name(a.own.identity(e)), r.Offset, strings.Join(diff, "; "))
	}
}

// mark counts a fence or heartbeat and checks what it says of the log.
func (a *audit) mark(r Record, kind string) {
	entry, err := a.dec.mark(r, kind)
	if err != nil {
		a.report.Changed++
		a.report.fault("%s at offset %d does not make sense: %v", kind, r.Offset, err)
	}
	if kind == recordFence {
		a.report.Fences++
		return
	}
	a.report.Heartbeats++
	h, ok := entry.(*Heartbeat)
	if !ok || a.last.Dot != h.Mirrored {
		return
	}
	if a.last.Chain != h.Chain {
		a.report.Changed++
		a.report.fault("heartbeat at offset %d says hash chain %x after event %s, the log has %x", r.Offset, h.Chain[:8], h.Mirrored, a.last.Chain[:8])
	}
	if a.o.Feed && h.Own != a.lastOwn {
		a.report.Changed++
		a.report.fault("heartbeat at offset %d says that %s is the last own event, the log has %s", r.Offset, h.Own, a.lastOwn)
	}
}

// rest counts what the topic does not have at its end.
func (a *audit) rest() error {
	holes := a.missing.count()
	for a.own.has && !before(a.end(&a.state), a.own.dot()) {
		if err := a.lacking(); err != nil {
			return err
		}
	}
	a.report.Missing = a.missing.count()
	a.report.Lag = a.report.Missing - holes
	for _, g := range a.missing {
		first := a.name(eventstore.Dot{Log: g.log, Seq: g.first})
		if g.first == g.last {
			a.report.fault("event %s is missing", first)
		} else {
			a.report.fault("%d events are missing, %s to %d", g.last-g.first+1, first, g.last)
		}
	}
	return nil
}

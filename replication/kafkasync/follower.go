package kafkasync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/tributary-es/tributary/eventstore"
	"golang.org/x/sync/errgroup"
)

// fetchWait is how long brokers wait for more records before they answer that there are none.
const fetchWait = 500 * time.Millisecond

// follower reads the partitions of a topic during one Sync.
type follower struct {
	s      *Syncer
	client *kafka.Client
	from   time.Time // zero: from the first record on
}

// follow reads all partitions, and those that are added.
func (f *follower) follow(ctx context.Context, all *errgroup.Group) error {
	tick := time.NewTicker(f.s.o.Refresh)
	defer tick.Stop()
	reading := 0
	for {
		partitions, err := f.partitions(ctx)
		if err != nil {
			return err
		}
		if len(partitions) > reading {
			f.s.reads(partitions)
		}
		for ; reading < len(partitions); reading++ {
			p := partition{f: f, number: partitions[reading]}
			all.Go(func() (err error) {
				defer func() { // it would end the program, and not the call of Sync
					if panicked := recover(); panicked != nil {
						err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
					}
				}()
				return p.follow(ctx)
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// partitions returns the numbers of the topic's partitions: from 0 on, of which there are never fewer than before.
func (f *follower) partitions(ctx context.Context) ([]int, error) {
	meta, err := f.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{f.s.o.Topic}})
	if err != nil {
		return nil, fmt.Errorf("ask for its partitions: %w", err)
	}
	if len(meta.Topics) != 1 || errors.Is(meta.Topics[0].Error, kafka.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("%w: there is no such topic", eventstore.ErrNotFound)
	}
	if err := meta.Topics[0].Error; err != nil {
		return nil, fmt.Errorf("ask for its partitions: %w", err)
	}
	numbers := make([]int, len(meta.Topics[0].Partitions))
	for i := range numbers {
		numbers[i] = i
	}
	return numbers, nil
}

// partition is one that is read.
type partition struct {
	f      *follower
	number int
}

// follow reads the partition until ctx ends or something goes wrong.
func (p *partition) follow(ctx context.Context) error {
	offset, err := p.begin(ctx)
	if err != nil {
		return fmt.Errorf("find where to begin in partition %d: %w", p.number, err)
	}
	open := transactions{}
	for answered := time.Now(); ; {
		asked := time.Now()
		if asked.Sub(answered) > remakeTakes { // the topic may be another one
			if err := p.same(ctx); err != nil {
				return err
			}
		}
		answer, err := p.fetch(ctx, offset)
		if err != nil {
			return fmt.Errorf("read partition %d from offset %d: %w", p.number, offset, p.explain(ctx, offset, err))
		}
		answered = time.Now()
		next, err := open.take(answer.Records, offset)
		if err == nil && next == offset {
			next, err = p.skip(ctx, answer, offset)
		}
		if err != nil {
			return fmt.Errorf("read partition %d from offset %d: %w", p.number, offset, err)
		}
		offset = next
		settled, timed := open.settled()
		if len(settled) > 0 {
			if err := p.f.s.give(ctx, p.number, settled); err != nil {
				return err
			}
			last := &settled[len(settled)-1]
			p.f.s.setPlace(p.number, place{last.Offset + 1, last.Offset, p.f.s.id(p.number, last)})
		} else if _, known := p.f.s.placeIn(p.number); !known && open.none() {
			p.f.s.setPlace(p.number, place{next: offset})
		}
		switch {
		case offset >= answer.HighWatermark && open.none():
			p.f.s.hasApplied(p.number, asked)
		case len(settled) > 0 && timed && settled[len(settled)-1].Time.Before(asked): // not what stands behind a transaction that is open
			p.f.s.hasApplied(p.number, settled[len(settled)-1].Time)
		default:
			p.f.s.isRead(p.number, p.f.from)
		}
	}
}

// remakeTakes is how long it takes at least to remove a topic and make it anew.
const remakeTakes = 200 * time.Millisecond

func (p *partition) fetch(ctx context.Context, offset int64) (*kafka.FetchResponse, error) {
	answer, err := p.f.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: p.f.s.o.Topic, Partition: p.number, Offset: offset, MinBytes: 1, MaxBytes: int64(p.f.s.o.MaxBytes), MaxWait: fetchWait,
		IsolationLevel: kafka.ReadCommitted,
	})
	if err == nil {
		err = answer.Error
	}
	return answer, err
}

// errAnew: the records that were read are of another topic of the same name.
var errAnew = errors.New("the topic was made anew, and is read from where the time says")

// same returns errAnew when the last record that was applied is another one by now. That it is gone, as by compaction, says nothing.
func (p *partition) same(ctx context.Context) error {
	at, known := p.f.s.placeIn(p.number)
	if !known || at.id == "" {
		return nil
	}
	answer, err := p.fetch(ctx, at.last)
	if err != nil {
		return fmt.Errorf("read partition %d from offset %d: %w", p.number, at.last, p.explain(ctx, at.last, err))
	}
	for {
		r, err := answer.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read partition %d from offset %d: %w", p.number, at.last, err)
		}
		record, err := recordOf(r)
		if err != nil {
			return fmt.Errorf("read partition %d: %w", p.number, err)
		}
		if record.Offset == at.last && p.f.s.id(p.number, &record) != at.id {
			p.f.s.forget(p.number)
			return fmt.Errorf("read partition %d: %w", p.number, errAnew)
		}
		if record.Offset >= at.last {
			return nil
		}
	}
}

// skip returns the offset behind the batch that an answer begins with, of which compaction has left nothing from an offset on; that one when
// the answer has nothing.
func (p *partition) skip(ctx context.Context, answer *kafka.FetchResponse, offset int64) (int64, error) {
	base, ok := firstBatch(answer.Records)
	if !ok {
		return offset, nil
	}
	offset = max(offset, base)
	inside := func(at int64) (bool, error) {
		answer, err := p.fetch(ctx, at)
		if err != nil {
			return false, err
		}
		first, ok := firstBatch(answer.Records)
		return ok && first == base, nil
	}
	last, end := offset, max(answer.HighWatermark, offset+1) // last is inside, end is not, or is not known to be
	for step := int64(1); last+step < end; step *= 2 {
		in, err := inside(last + step)
		if err != nil {
			return 0, err
		}
		if !in {
			end = last + step
			break
		}
		last += step
	}
	for last+1 < end {
		middle := last + (end-last)/2
		in, err := inside(middle)
		switch {
		case err != nil:
			return 0, err
		case in:
			last = middle
		default:
			end = middle
		}
	}
	return end, nil
}

// beginByTime returns the offset of the first record that may be of the time to begin with, or come later.
func (p *partition) beginByTime(ctx context.Context) (int64, error) {
	ask := func(at kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
		answer, err := p.f.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
			Topics: map[string][]kafka.OffsetRequest{p.f.s.o.Topic: {at}}, IsolationLevel: kafka.ReadCommitted,
		})
		if err != nil {
			return kafka.PartitionOffsets{}, err
		}
		for _, o := range answer.Topics[p.f.s.o.Topic] {
			if o.Partition == p.number {
				return o, o.Error
			}
		}
		return kafka.PartitionOffsets{}, errors.New("the brokers do not say")
	}
	if p.f.from.IsZero() {
		first, err := ask(kafka.FirstOffsetOf(p.number))
		return first.FirstOffset, err
	}
	// What comes after the question is later than what the answer is about.
	last, err := ask(kafka.LastOffsetOf(p.number))
	if err != nil {
		return 0, err
	}
	since, err := ask(kafka.TimeOffsetOf(p.number, p.f.from))
	if err != nil {
		return 0, err
	}
	for offset := range since.Offsets {
		if offset >= 0 {
			return min(offset, last.LastOffset), nil
		}
	}
	return last.LastOffset, nil
}

// begin returns the offset to begin with: that of the time, or the one behind what an earlier Sync has applied, if that is before. So what
// could not be applied then comes, however old it says that it is.
func (p *partition) begin(ctx context.Context) (int64, error) {
	offset, err := p.beginByTime(ctx)
	if err != nil {
		return 0, err
	}
	at, known := p.f.s.placeIn(p.number)
	if !known || at.next >= offset {
		return offset, nil
	}
	return at.next, p.same(ctx)
}

// explain says of an offset that the brokers do not have what has become of it.
func (p *partition) explain(ctx context.Context, offset int64, err error) error {
	if !errors.Is(err, kafka.OffsetOutOfRange) {
		return err
	}
	p.f.s.forget(p.number)
	answer, asked := p.f.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		p.f.s.o.Topic: {kafka.FirstOffsetOf(p.number), kafka.LastOffsetOf(p.number)},
	}})
	if asked != nil {
		return err
	}
	for _, o := range answer.Topics[p.f.s.o.Topic] {
		switch {
		case o.Partition != p.number || o.Error != nil:
		case offset < o.FirstOffset:
			return fmt.Errorf("%w: the topic has dropped the records up to offset %d before they were read: what they said is missed; let it keep them for longer (retention.ms, retention.bytes)",
				err, o.FirstOffset-1)
		case offset > o.LastOffset:
			return fmt.Errorf("%w: it ends at offset %d: the topic was made anew, or has lost its end", err, o.LastOffset-1)
		}
	}
	return err
}

package kafkasync

import (
	"context"
	"errors"
	"fmt"
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
			all.Go(func() error { return p.follow(ctx) })
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
	for {
		asked := time.Now()
		answer, err := p.f.client.Fetch(ctx, &kafka.FetchRequest{
			Topic: p.f.s.o.Topic, Partition: p.number, Offset: offset, MinBytes: 1, MaxBytes: int64(p.f.s.o.MaxBytes), MaxWait: fetchWait,
			IsolationLevel: kafka.ReadCommitted,
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return fmt.Errorf("read partition %d from offset %d: %w", p.number, offset, p.explain(ctx, offset, err))
		}
		next, err := open.take(answer.Records, offset)
		if err != nil {
			return fmt.Errorf("read partition %d from offset %d: %w", p.number, offset, err)
		}
		offset = next
		settled := open.settled()
		if len(settled) > 0 {
			if err := p.f.s.give(ctx, p.number, settled); err != nil {
				return err
			}
			p.f.s.hasApplied(p.number, settled[len(settled)-1].Time)
		}
		if offset >= answer.LastStableOffset && open.none() {
			p.f.s.hasApplied(p.number, asked)
		}
	}
}

// begin returns the offset of the first record that may be of the time to begin with, or come later.
func (p *partition) begin(ctx context.Context) (int64, error) {
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

// explain says of an offset that the brokers do not have what has become of it.
func (p *partition) explain(ctx context.Context, offset int64, err error) error {
	if !errors.Is(err, kafka.OffsetOutOfRange) {
		return err
	}
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

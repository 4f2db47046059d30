package kafkasync

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/replication"
	"golang.org/x/sync/errgroup"
)

// Record is a record of the topic. Its Time is what its producer has said, to the millisecond.
type Record struct {
	kafkalog.Record
	Partition int
	// ID names the record: it is made of its place and of all that it says but its headers. It fits a request's ID.
	ID string
}

// Options of a Syncer. Brokers, Topic and Apply are required.
type Options struct {
	// Brokers are addresses, host:port, of some of the cluster's brokers; the others are learned from them.
	Brokers []string
	// TLS, when not nil, encrypts connections. User and Password, when set, log in by SASL PLAIN.
	TLS            *tls.Config
	User, Password string
	Topic          string
	// Apply is given records of one partition in order, at least one, and returns when they are done for good, each once for its ID.
	// One call is under way at a time.
	Apply func(ctx context.Context, records []Record) error
	// Late is how much later than their time says records may come into the topic, as producers gather and try again: so much more is read
	// again when Sync is called anew. Zero means 1 min.
	Late time.Duration
	// MaxBytes is about how much of a partition is read at a time; zero means 1 MiB. A transaction is kept in memory until it ends.
	MaxBytes int
	// Refresh is how often partitions are looked for that were added; zero means 10 s, and 100 ms is
	// the least.
	Refresh time.Duration
	// Timeout bounds a request; zero means 10 s.
	Timeout time.Duration
}

// leastBytes is what has to be asked for so that brokers give a record, leastRefresh how often they are asked for partitions at most.
const (
	leastBytes   = 64
	leastRefresh = 100 * time.Millisecond
)

// Syncer follows a topic, over a connection for each partition. It implements replication.Sharer, with the record's key as the key.
type Syncer struct {
	o Options

	apply sync.Mutex // held while Apply is called

	mu      sync.Mutex // guards what follows
	keep    func(key string) bool
	applied map[int]time.Time // by partition: all that stood in it then has been applied; zero: nothing is known. Nil: Sync is not running
	// places are those behind the last records that were applied, by partition. The next Sync reads from there what is older than it asks for.
	places map[int]place
}

// place is one behind a record, where there is one.
type place struct {
	next int64
	last int64  // the record's offset
	id   string // and ID; empty: there is none
}

var _ replication.Sharer = (*Syncer)(nil)

// New returns a Syncer.
func New(o Options) (*Syncer, error) {
	var faults []error
	if len(o.Brokers) == 0 || slices.Contains(o.Brokers, "") {
		faults = append(faults, errors.New("no brokers given: name at least one as host:port"))
	}
	if o.Topic == "" {
		faults = append(faults, errors.New("no topic given"))
	}
	if o.Apply == nil {
		faults = append(faults, errors.New("no Apply given"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("%w: kafka: %w", eventstore.ErrInvalid, err)
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{{&o.Late, time.Minute}, {&o.Refresh, 10 * time.Second}, {&o.Timeout, 10 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 20
	}
	o.MaxBytes, o.Refresh = max(o.MaxBytes, leastBytes), max(o.Refresh, leastRefresh)
	return &Syncer{o: o, places: map[int]place{}}, nil
}

// Share implements replication.Sharer.
func (s *Syncer) Share(keep func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = keep
}

// HealthCheck implements replication.Syncer: healthy while every partition is read. The lag is that between the clock here and the time of
// the records, or the time since it was known that there are no more, in the partition that is furthest behind.
func (s *Syncer) HealthCheck() (healthy bool, lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.applied {
		if at.IsZero() {
			return false, 0
		}
		lag = max(lag, time.Since(at))
	}
	return len(s.applied) > 0, lag
}

// Sync applies what has been written into the topic since fromTS, and follows it until ctx ends.
func (s *Syncer) Sync(ctx context.Context, fromTS int64) error {
	t := &kafka.Transport{
		ClientID: "tributary", TLS: s.o.TLS, MetadataTopics: []string{s.o.Topic}, MetadataTTL: s.o.Refresh, DialTimeout: min(s.o.Timeout, 3*time.Second),
	}
	if s.o.User != "" {
		t.SASL = plain.Mechanism{Username: s.o.User, Password: s.o.Password}
	}
	defer t.CloseIdleConnections()
	defer s.reads(nil)
	f := &follower{s: s, client: &kafka.Client{Addr: kafka.TCP(s.o.Brokers...), Timeout: s.o.Timeout, Transport: t}}
	if again := s.o.Late + 2*s.o.Refresh; fromTS > int64(again) { // brokers take times below zero for something else
		// A partition that was added, and that nobody had looked for yet, is behind what the lag said by as much as 2 × Refresh.
		f.from = time.Unix(0, fromTS).Add(-again)
	}
	all, following := errgroup.WithContext(ctx)
	all.Go(func() error { return f.follow(following, all) })
	err := all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("follow topic %s: %w", s.o.Topic, err)
}

// reads notes which partitions are read from now on.
func (s *Syncer) reads(partitions []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.applied
	s.applied = nil
	if partitions != nil {
		s.applied = map[int]time.Time{}
	}
	for _, p := range partitions {
		s.applied[p] = was[p]
	}
}

// hasApplied notes that all that stood in a partition at a time has been applied.
func (s *Syncer) hasApplied(partition int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.applied != nil {
		s.applied[partition] = at
	}
}

// placeIn returns the place in a partition, if there is one.
func (s *Syncer) placeIn(partition int) (place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.places[partition]
	return at, ok
}

// setPlace notes the place in a partition, before which all has been applied.
func (s *Syncer) setPlace(partition int, at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[partition] = at
}

// forget has the next Sync begin in a partition where the time says.
func (s *Syncer) forget(partition int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.places, partition)
}

// isRead notes that a partition is read, all of which before a time has been applied as it was asked to be.
func (s *Syncer) isRead(partition int, from time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.applied != nil && s.applied[partition].IsZero() {
		if from.IsZero() {
			from = time.Unix(0, 0)
		}
		s.applied[partition] = from
	}
}

// give has records of one partition applied.
func (s *Syncer) give(ctx context.Context, partition int, records []kafkalog.Record) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	keep := s.keep
	s.mu.Unlock()
	kept := make([]Record, 0, len(records))
	for _, r := range records {
		if keep == nil || keep(string(r.Key)) {
			kept = append(kept, Record{Record: r, Partition: partition, ID: s.id(partition, &r)})
		}
	}
	if len(kept) == 0 {
		return nil
	}
	if err := s.o.Apply(ctx, kept); err != nil {
		return fmt.Errorf("apply %d records of partition %d from offset %d on: %w", len(kept), partition, kept[0].Offset, err)
	}
	return nil
}

// id is made of place and content: a topic that is made anew has other records at the same offsets.
func (s *Syncer) id(partition int, r *kafkalog.Record) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %d %d %q %q", s.o.Topic, partition, r.Offset, r.Time.UnixMilli(), r.Key, r.Value)
	return "kafka/" + hex.EncodeToString(h.Sum(nil)[:16])
}

package kafkalog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Options say where the topic is and how to write and read it. Brokers is required, Topic too where no store tells the
// site; the rest is good as zero.
type Options struct {
	// Brokers are addresses, host:port, of some of the cluster's brokers; the others are learned from them.
	Brokers []string
	// TLS, when not nil, encrypts connections. User and Password, when set, log in by SASL PLAIN.
	TLS            *tls.Config
	User, Password string
	// ClientID is what the brokers' logs call this program; empty means "tributary".
	ClientID string
	// RequestTimeout bounds one request; zero means 10 s. Half of it is the time in which the brokers must acknowledge.
	RequestTimeout time.Duration
	// SilentAfter is how long the brokers may take to answer a mirror before they are said to be silent; zero means 4 s.
	SilentAfter time.Duration
	// Patience is for how long a Recovery tries brokers that do not answer; zero means 20 s.
	Patience time.Duration
	// MaxBackoff bounds the pause between vain attempts to reach the brokers; zero means 2 s.
	MaxBackoff time.Duration

	// Topic is its name; empty means TopicOf the store's site, or FeedOf it.
	Topic string
	// Feed says that the topic is a feed: it has all that the site's log holds, events of other logs too, in the local order. Whoever
	// reads it has to say so as well.
	Feed bool
	// Partition holds the shard's events; zero means the store's shard, or partition 0 for a Reader.
	Partition int

	// TransactionalID names the mirror's producer to the brokers: two mirrors of one partition must have the same, by which
	// the later one fences the earlier. Empty means topic and partition.
	TransactionalID string
	// Heartbeat is the time between heartbeats, busy or idle; zero means 250 ms. Each is a record of the topic for good.
	Heartbeat time.Duration
	// Compression of batches: snappy (also when empty), lz4, zstd, gzip or none.
	Compression string
	// BatchBytes is the size, before compression, at which a batch of records is sent; zero means 512 KiB. A single event
	// may exceed it.
	BatchBytes int
	// Gather is how long a mirror that has caught up lets events gather after it has last read some, so that those of a steady stream
	// cost the brokers, and who reads the topic, a request for several. One that comes after a pause does not wait, nor does anything
	// while somebody waits for the mirror (Mirror.Wait). Zero means 2 ms, less than zero not at all.
	Gather time.Duration
	// Checkpoint, when not nil, keeps how far the mirror has come beside the topic. It serves only when the topic's tail
	// tells nothing, and may be stale or lost.
	Checkpoint Checkpoint
	// Returning says that events of earlier lives of the log that the topic has, and the log has lost, come back by themselves, as
	// they do to a site that others replicate with: the mirror waits for them. Otherwise they stop it.
	Returning bool
	// Clock gives fences and heartbeats their time; nil means a new clock. It should be the store's.
	Clock *hlc.Clock

	// Logger is told of what happens once in a while; nil is silent.
	Logger *slog.Logger
}

// withDefaults checks the options and fills in what is zero. The log is that of the store, or zero when there is none.
func (o Options) withDefaults(log eventstore.LogID) (Options, error) {
	o.Brokers = slices.Clone(o.Brokers)
	if o.Topic == "" && log.Site != "" {
		o.Topic = TopicOf(log.Site)
		if o.Feed {
			o.Topic = FeedOf(log.Site)
		}
	}
	if o.Partition == 0 {
		o.Partition = int(log.Shard)
	}
	var faults []error
	if len(o.Brokers) == 0 {
		faults = append(faults, errors.New("no brokers given: name at least one as host:port"))
	}
	if o.Topic == "" {
		faults = append(faults, errors.New("no topic given"))
	}
	if _, ok := compressions[o.Compression]; !ok {
		faults = append(faults, fmt.Errorf("compression %q is unknown: use snappy, lz4, zstd, gzip or none", o.Compression))
	}
	if err := errors.Join(faults...); err != nil {
		return o, fmt.Errorf("%w: kafka: %w", eventstore.ErrInvalid, err)
	}
	set(&o.ClientID, "tributary")
	set(&o.RequestTimeout, 10*time.Second)
	set(&o.SilentAfter, 4*time.Second)
	set(&o.Patience, 20*time.Second)
	set(&o.MaxBackoff, 2*time.Second)
	set(&o.TransactionalID, fmt.Sprintf("%s-%d", o.Topic, o.Partition))
	set(&o.Heartbeat, 250*time.Millisecond)
	set(&o.BatchBytes, 512<<10)
	set(&o.Gather, 2*time.Millisecond)
	if o.Clock == nil {
		o.Clock = hlc.New(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func (o *Options) compression() protocol.Attributes { return compressions[o.Compression] }

// set gives a zero option its default.
func set[T comparable](option *T, value T) {
	var zero T
	if *option == zero {
		*option = value
	}
}

// backoff gives the pauses between vain attempts: doubling, from 20 ms to max.
type backoff struct {
	max, next time.Duration
}

func (b *backoff) pause() time.Duration {
	pause := max(b.next, 20*time.Millisecond)
	b.next = min(2*pause, b.max)
	return min(pause, b.max)
}

func (b *backoff) reset() { b.next = 0 }

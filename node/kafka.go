package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/durable"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/internal/server"
)

// kafkaPart is the mirror, that of the feed where there is one, and, where it is embedded, the broker.
type kafkaPart struct {
	mode        string
	broker      *embedded.Broker
	mirror      *kafkalog.Mirror
	options     kafkalog.Options
	feed        *kafkalog.Mirror // nil where there is none
	feedOptions kafkalog.Options
	log         *slog.Logger
}

// embeddedHeartbeat is longer than that of real brokers, for each heartbeat stays in the topic, and nobody else reads it.
const embeddedHeartbeat = 5 * time.Second

func openKafka(n *Node) (*kafkaPart, error) {
	k := &kafkaPart{mode: n.config.Kafka, log: n.log}
	if k.mode == Off {
		return k, nil
	}
	k.options = kafkalog.Options{Logger: n.log, Clock: n.clock, Checkpoint: kafkalog.FileCheckpoint(n.path(mirrorFile)), Topic: kafkalog.TopicOf(n.config.Site), Returning: len(n.config.Peers) > 0}
	if k.mode == Embedded {
		if err := k.openBroker(n); err != nil {
			return k, fmt.Errorf("start embedded kafka: %w", err)
		}
		k.options.Brokers = []string{k.broker.Addr()}
		if len(n.config.Peers) == 0 {
			k.options.Heartbeat = embeddedHeartbeat
		}
	} else {
		var err error
		if k.options.Brokers, err = brokers(k.mode); err != nil {
			return k, fmt.Errorf("--kafka: %w", err)
		}
	}
	k.mirror = kafkalog.NewMirror(n.local, k.options)
	return k, nil
}

// openFeed makes the feed's mirror, where there is to be one. It comes when the other sites are known.
func (n *Node) openFeed() error {
	wanted := n.config.Feed == FeedOn
	if !wanted && n.config.Source == SourceKafka {
		others, err := n.hasOthers()
		if err != nil {
			return err
		}
		wanted = others
	}
	k := n.kafka
	if !wanted || k.mirror == nil {
		return nil
	}
	k.feedOptions = kafkalog.Options{
		Brokers: k.options.Brokers, Logger: n.log, Clock: n.clock, Checkpoint: kafkalog.FileCheckpoint(n.path(feedFile)),
		Feed: true, Topic: kafkalog.FeedOf(n.config.Site),
	}
	if k.mode == Embedded {
		k.feedOptions.Heartbeat = embeddedHeartbeat
	}
	k.feed = kafkalog.NewMirror(n.local, k.feedOptions)
	return nil
}

// openBroker starts the embedded broker. Data of it that cannot be loaded keep nothing from starting: they are set aside, and
// the topic is published again from the log.
func (k *kafkaPart) openBroker(n *Node) error {
	broker, aside, err := embedded.OpenAnew(n.path("kafka"), embedded.Options{Logger: n.log, Port: n.config.KafkaPort})
	if errors.Is(err, syscall.EADDRINUSE) {
		return server.Taken(context.Background(), net.JoinHostPort("127.0.0.1", strconv.Itoa(n.config.KafkaPort)), "Kafka")
	}
	if err != nil {
		return err
	}
	k.broker = broker
	if aside == "" {
		return nil
	}
	n.log.Error("the embedded kafka's data are damaged: they are set aside, and the topic is published again from the log", "folder", aside)
	// The mirrors' marks are of the topics that were.
	for _, mark := range []string{mirrorFile, feedFile} {
		if err := os.Rename(n.path(mark), filepath.Join(aside, mark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the mirror's mark aside: %w", err)
		}
	}
	return nil
}

// mirrorFile and feedFile keep how far the mirrors of the two topics have come.
const (
	mirrorFile = "mirror.json"
	feedFile   = "feed.json"
)

// Erasures must not wait for Kafka, nor for other sites.
var _ sealed.Stepped = (*durable.Store)(nil)

// durable returns the store with the classes of durability that are kept here: Kafka where there is a mirror, Peer where there
// are other sites.
func (n *Node) durable(s eventstore.Store) eventstore.Store {
	keepers := map[eventstore.Durability]durable.Keeper{}
	if n.kafka.mirror != nil {
		keepers[eventstore.Kafka] = n.kafka.mirror
	}
	if n.sites.site != nil {
		keepers[eventstore.Peer] = n.sites.site
	}
	kept := durable.New(s, keepers)
	kept.Lacks = map[eventstore.Durability]string{}
	for _, class := range []eventstore.Durability{eventstore.Kafka, eventstore.Peer} {
		kept.Lacks[class] = n.config.lacksFor(class.String())
	}
	return kept
}

// run mirrors until ctx ends, once it may begin. A mirror that must not go on says so and stops; commands, and the other one, go on
// without it.
func (k *kafkaPart) run(ctx context.Context, may func(context.Context) error) error {
	if k.mirror == nil {
		return nil
	}
	if err := may(ctx); err != nil {
		return err
	}
	var feeding sync.WaitGroup
	defer feeding.Wait()
	if k.feed != nil {
		feeding.Go(func() {
			if err := k.feed.Run(ctx); err != nil && ctx.Err() == nil {
				k.log.Error("the feed's mirror has stopped", slog.Any("error", err))
			}
		})
	}
	if err := k.mirror.Run(ctx); err != nil && ctx.Err() == nil {
		k.log.Error("the mirror has stopped", slog.Any("error", err))
	}
	return nil
}

func (k *kafkaPart) close() error {
	if k == nil || k.broker == nil {
		return nil
	}
	return k.broker.Close()
}

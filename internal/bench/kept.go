package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/durable"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// kept returns the store with what the load's durability needs beyond its disk: for kafka the embedded broker, with its data beside dir, and
// a mirror, as a node has them.
func (l *Load) kept(ctx context.Context, store *pebblestore.Store, dir string) (_ eventstore.Store, closeAll func() error, err error) {
	if l.Durability != eventstore.Kafka.String() {
		return store, func() error { return nil }, nil
	}
	broker, err := embedded.Open(dir+"-kafka", embedded.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("start a broker: %w", err)
	}
	mirror := kafkalog.NewMirror(store, kafkalog.Options{Brokers: []string{broker.Addr()}})
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- mirror.Run(running) }()
	closeAll = func() error {
		cancel()
		return errors.Join(<-ended, broker.Close())
	}
	if err := mirror.Ready(ctx); err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	return durable.New(store, map[eventstore.Durability]durable.Keeper{eventstore.Kafka: mirror}), closeAll, nil
}

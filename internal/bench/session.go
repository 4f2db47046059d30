package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// Session measures durable appends through one session of the Go client, with Clients of them in flight.
func Session(ctx context.Context, dir string, l Load, progress func(done, total int)) (Result, error) {
	var sides []Side
	for round := range l.Rounds {
		s, err := sessionRound(ctx, filepath.Join(dir, fmt.Sprintf("store-%d", round)), l)
		if err != nil {
			return Result{}, fmt.Errorf("measure a session: %w", err)
		}
		sides = append(sides, s)
		progress(round+1, l.Rounds)
	}
	return l.result(sides), nil
}

func sessionRound(ctx context.Context, dir string, l Load) (_ Side, err error) {
	addr := l.Addr
	if addr == "" {
		store, err := pebblestore.Open(dir, nil)
		if err != nil {
			return Side{}, err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		serving, err := serveStore(ctx, store, store)
		if err != nil {
			return Side{}, err
		}
		defer func() { err = errors.Join(err, serving.close()) }()
		addr = serving.addr
	}
	c, err := client.Dial(ctx, addr, nil)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	writers := l.writers([]appendsTo{func(ctx context.Context, r *eventstore.Request) error {
		_, err := c.Append(ctx, *r)
		return err
	}})
	return l.run(ctx, func(client int) error { return writers[client].append(ctx) })
}

package redisview

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// generation is a model that is being filled beside the live one: a projections.Generation.
type generation struct {
	view   *View
	number int64
}

// Beside is part of projections.Generations.
func (v *View) Beside(ctx context.Context) (projections.Generation, error) {
	if err := v.drop(ctx, v.names.building); err != nil {
		return nil, err
	}
	number, err := v.newGeneration(ctx)
	if err != nil {
		return nil, err
	}
	h := head{generation: number, version: v.projection.Version, edits: "0"}
	if err := v.client.reads.HSet(ctx, v.names.building, h.fields()...).Err(); err != nil {
		return nil, v.client.unavailable("begin a generation", err)
	}
	return &generation{view: v, number: number}, nil
}

func (g *generation) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	return g.view.commit(ctx, writer{cursor: g.view.names.building, generation: g.number}, from, to, events)
}

func (g *generation) Digest(ctx context.Context) (string, error) {
	return g.view.digest(ctx, g.view.names.building)
}

// Cursor is projections.CursorReader.
func (g *generation) Cursor(ctx context.Context) (projections.Cursor, error) {
	h, err := g.view.head(ctx, g.view.names.building)
	if err == nil {
		err = g.check(&h)
	}
	return h.at, err
}

func (g *generation) check(h *head) error {
	if h.generation != g.number {
		return fmt.Errorf("%w: generation %d is being filled, no longer %d", projections.ErrCursorMoved, h.generation, g.number)
	}
	return nil
}

// Promote renames the cursor of the generation to that of the live model, which is all that makes it live.
func (g *generation) Promote(ctx context.Context, at projections.Cursor) error {
	v := g.view
	v.mu.Lock()
	defer v.mu.Unlock()
	tx, h, err := v.watch(ctx, v.names.building)
	defer tx.end()
	if err != nil {
		return err
	}
	if err := g.check(&h); err != nil {
		return err
	}
	if h.at != at {
		return fmt.Errorf("%w: generation %d is at %s, to be promoted at %s", projections.ErrCursorMoved, g.number, h.at, at)
	}
	watched := tx.conn.Pipeline()
	watched.Do(ctx, "watch", v.names.cursor)
	old := watched.HGet(ctx, v.names.cursor, fieldGeneration)
	if _, err := watched.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return v.client.unavailable("promote", err)
	}
	pipe := tx.conn.TxPipeline()
	if old.Val() != "" {
		pipe.SAdd(ctx, v.names.garbage, old.Val())
	}
	pipe.Rename(ctx, v.names.building, v.names.cursor)
	_, err = pipe.Exec(ctx)
	switch {
	case errors.Is(err, redis.TxFailedErr):
		tx.watched = false
		return fmt.Errorf("%w: it was touched while generation %d was promoted", projections.ErrCursorMoved, g.number)
	case err != nil:
		return v.client.unavailable("promote", err)
	}
	tx.watched = false
	v.readable.Store(g.number)
	v.sweep()
	return nil
}

// Discard is part of projections.Generation.
func (g *generation) Discard(ctx context.Context) error {
	if _, err := g.Cursor(ctx); errors.Is(err, projections.ErrCursorMoved) || errors.Is(err, projections.ErrNoCursor) {
		return nil
	}
	if err := g.view.drop(ctx, g.view.names.building); err != nil {
		return err
	}
	g.view.sweep()
	return nil
}

// sweepPage is how many keys are deleted in one round trip.
const sweepPage = 1000

// sweep deletes, beside everything else, the keys of generations that are no longer wanted. What it does not get done is
// left to the next sweep.
func (v *View) sweep() {
	v.sweepMu.Lock()
	defer v.sweepMu.Unlock()
	if v.closing.Err() != nil {
		return
	}
	v.sweeping.Go(func() {
		if err := v.sweepAll(v.closing); err != nil && v.closing.Err() == nil {
			v.logger.Debug("old generations are not swept yet", "projection", v.Name(), "cause", err)
		}
	})
}

func (v *View) sweepAll(ctx context.Context) error {
	garbage, err := v.client.reads.SMembers(ctx, v.names.garbage).Result()
	if err != nil {
		return v.client.unavailable("sweep", err)
	}
	for _, text := range garbage {
		// Numbers are never given twice, so nothing new can be under this one.
		number, err := strconv.ParseInt(text, 10, 64)
		if err == nil {
			err = v.scan(ctx, number, func(keys []string) error {
				return v.client.reads.Unlink(ctx, keys...).Err()
			})
			if err == nil {
				err = v.client.reads.Unlink(ctx, v.names.parked(number)).Err()
			}
		}
		if err == nil {
			err = v.client.reads.SRem(ctx, v.names.garbage, text).Err()
		}
		if err != nil {
			return v.client.unavailable("sweep", err)
		}
	}
	return nil
}

// scan calls visit with the whole keys of a generation's model, some at a time. A key may come twice.
func (v *View) scan(ctx context.Context, generation int64, visit func(keys []string) error) error {
	match := globEscaper.Replace(v.names.model(generation)) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := v.client.reads.Scan(ctx, cursor, match, sweepPage).Result()
		if err != nil {
			return err
		}
		for len(keys) > 0 {
			n := min(len(keys), sweepPage)
			if err := visit(keys[:n]); err != nil {
				return err
			}
			keys = keys[n:]
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

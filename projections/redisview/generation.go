package redisview

import (
	"context"
	"errors"
	"fmt"

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

package memview

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// Beside is part of projections.Generations.
func (k *Keys) Beside(context.Context) (projections.Generation, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.building = newKeyModel()
	return &keyGeneration{keys: k, model: k.building}, nil
}

// keyGeneration is a model that is being filled beside the live one.
type keyGeneration struct {
	keys  *Keys
	model *keyModel
}

func (g *keyGeneration) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
	if err := g.current(); err != nil {
		return nil, err
	}
	return g.keys.commit(ctx, g.model, from, to, events)
}

func (g *keyGeneration) Digest(context.Context) (string, error) {
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
	return g.model.digest(), nil
}

func (g *keyGeneration) Promote(_ context.Context, at projections.Cursor) error {
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
	if err := g.current(); err != nil {
		return err
	}
	if g.model.cursor != at {
		return fmt.Errorf("%w: at %s, to be promoted at %s", projections.ErrCursorMoved, g.model.cursor, at)
	}
	g.keys.live, g.keys.building = g.model, nil
	return nil
}

func (g *keyGeneration) Discard(context.Context) error {
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
	if g.keys.building == g.model {
		g.keys.building = nil
	}
	return nil
}

// current says whether no later generation was begun. REQUIRES: the mutex is held.
func (g *keyGeneration) current() error {
	if g.keys.building != g.model {
		return fmt.Errorf("%w: another generation was begun", projections.ErrCursorMoved)
	}
	return nil
}

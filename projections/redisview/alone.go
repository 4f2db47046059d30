package redisview

import "context"

// Alone reports whether Redis holds the live model and nothing of another generation: none that is being filled, or was
// and is given up, and none that was replaced and is still to be swept, which Alone then goes about. What the live model
// has dropped is gone when it is alone.
func (v *View) Alone(ctx context.Context) (bool, error) {
	pipe := v.client.reads.Pipeline()
	building := pipe.Exists(ctx, v.names.building)
	garbage := pipe.SCard(ctx, v.names.garbage)
	if _, err := pipe.Exec(ctx); err != nil {
		return false, v.client.unavailable("look for other generations", err)
	}
	if garbage.Val() > 0 {
		v.sweep()
	}
	return building.Val() == 0 && garbage.Val() == 0, nil
}

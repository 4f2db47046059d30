package node

import (
	"cmp"
	"context"
	"errors"

	"github.com/tributary-es/tributary/internal/engine"
)

// RequireEngines returns a *engine.MissingError, with the line that gets it, when the configuration needs an engine that
// is not on this machine.
func RequireEngines(ctx context.Context, config Config) error {
	if cmp.Or(config.ClickHouse, Embedded) != Embedded {
		return nil
	}
	cache, err := engine.CacheDir()
	if err != nil {
		return err
	}
	return engine.Lookup("clickhouse").Status(ctx, cache).Err()
}

// engineProblem says of an engine that could not be started what is wrong and what to do.
func engineProblem(err error) string {
	var missing *engine.MissingError
	if errors.As(err, &missing) {
		return missing.Status.Hint
	}
	return err.Error()
}

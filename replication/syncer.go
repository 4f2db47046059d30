package replication

import (
	"context"
	"time"
)

// Syncer brings over what happens at a source: another site's topic, a table of another program, an API. It is started,
// watched, restarted and exchanged by a SyncOrchestrator. Its methods are safe for concurrent use.
type Syncer interface {
	// Sync brings over everything that has happened at the source since fromTS, in Unix nanoseconds, and returns nil when it
	// has, or goes on as more happens until ctx ends, and then returns ctx's error. Any other error means that it has to be
	// called again. It is idempotent: from any earlier fromTS it ends with the same, whatever has been brought over before.
	// There is one call under way at a time.
	Sync(ctx context.Context, fromTS int64) error
	// HealthCheck reports whether the syncer does its work, and its lag: everything that happened at the source more than
	// this long ago has been brought over. It answers at once, from what the syncer knows, and turns from not healthy to
	// healthy only through a call of Sync. A syncer that follows is not healthy between two calls.
	HealthCheck() (healthy bool, lag time.Duration)
}

// Sharer is a Syncer that can be told to bring over only some keys, so that another can be tried on the others first.
type Sharer interface {
	Syncer
	// Share has the syncer bring over only what has a key that keep accepts, from now on; nil accepts all. A key that it
	// takes on again is brought over from the fromTS of the next Sync, which the caller begins anew.
	Share(keep func(key string) bool)
}

// SyncProgress keeps how far each syncer has come, for the next time the program runs. Its methods have to be safe for
// concurrent use: syncers run side by side, and two of one name while they are exchanged.
type SyncProgress interface {
	// Load returns the fromTS of a syncer, 0 when it has none yet.
	Load(name string) (fromTS int64, err error)
	// Save keeps it.
	Save(name string, fromTS int64) error
}

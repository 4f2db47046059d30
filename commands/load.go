package commands

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Load folds a stream from its first event and returns the state and the version it stands at; version 0 and the zero
// state when it has no events. It uses no cache. The state is the caller's own.
func Load[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string,
) (state S, version uint64, err error) {
	return load(ctx, store, a, tenant, id, 0)
}

// LoadAt is Load as of a version: events after it are not folded. A stream that is not that long yet gives
// eventstore.ErrNotFound.
func LoadAt[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string, version uint64,
) (state S, err error) {
	if version == 0 {
		return a.zero(), nil
	}
	state, got, err := load(ctx, store, a, tenant, id, version)
	if err == nil && got < version {
		return state, fmt.Errorf("load %s/%s at version %d: it is at version %d: %w", a.Category, id, version, got, eventstore.ErrNotFound)
	}
	return state, err
}

// LoadFor returns the state that a decider would decide a command on now, and the position in the log at which that is. It
// uses no cache. The state is the caller's own. The decider need not be registered at the bus, the codecs of the events that
// it folds must be.
func LoadFor[S, C, E any](
	ctx context.Context, b *Bus, d Decider[S, C, E], tenant string, cmd C,
) (state S, at eventstore.Position, err error) {
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	p := &plan{message: &Message{Meta: Meta{Tenant: tenant}}}
	q := d.Query(cmd)
	for {
		fold := (&typedDecider[S, C, E]{d}).newFold(b.decode)
		g := &gathered{decider: d.Name, query: q, state: fold}
		if len(q) == 0 {
			return state, at, fmt.Errorf("load for %T: its query is empty: %w", cmd, eventstore.ErrInvalid)
		}
		if err := b.readOn(ctx, p, g); err != nil {
			return state, at, fmt.Errorf("load for %T: %w", cmd, err)
		}
		state = fold.(*typedScope[S, C, E]).state
		wider := both(q, fold.widen(cmd))
		if len(wider) == len(q) {
			return state, p.standpoint, nil
		}
		q = wider
	}
}

// LoadAsOf is Load as of a position of the log, which the store's PositionAt gives for a time: events after it are not
// folded, and the version is the one of then. eventstore.ErrWrongIncarnation when the position is not of this log.
func LoadAsOf[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string, at eventstore.Position,
) (state S, version uint64, err error) {
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	stream := eventstore.StreamID{Tenant: tenant, Category: a.Category, ID: id}
	version, err = store.VersionAt(ctx, stream, at)
	if err != nil {
		return state, 0, fmt.Errorf("load stream %s as of %s: %w", stream, at, err)
	}
	state, err = LoadAt(ctx, store, a, tenant, id, version)
	return state, version, err
}

// load folds up to a version; 0 means all there is.
func load[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string, upTo uint64,
) (state S, version uint64, err error) {
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	instance := &typedInstance[S, C, E]{aggregate: &a, state: a.zero()}
	f := folded{stream: eventstore.StreamID{Tenant: tenant, Category: a.Category, ID: id}, state: instance}
	for r, err := range store.Read(ctx, f.stream, 1) {
		if err != nil {
			return state, 0, fmt.Errorf("load stream %s: %w", f.stream, err)
		}
		if err := f.foldRecorded(&r); err != nil {
			return state, 0, err
		}
		if f.version == upTo {
			break
		}
	}
	return instance.state, f.version, nil
}

package commands

import (
	"context"
	"fmt"
	"iter"

	"github.com/tributary-es/tributary/eventstore"
)

// Load folds a stream from its first event and returns the state and the version it stands at; version 0 and the zero
// state when it has no events. It uses no cache. The state is the caller's own.
func Load[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string,
) (state S, version uint64, err error) {
	return load(ctx, store, a, tenant, id, nil)
}

// LoadHere is Load from the store of a bus, as commands that it is given now would find the state: seen from its site. at is
// a position in the log, up to which at least all is in the state.
func LoadHere[S, C, E any](
	ctx context.Context, b *Bus, a Aggregate[S, C, E], tenant, id string,
) (state S, version uint64, at eventstore.Position, err error) {
	own, err := b.store.Log(ctx)
	if err != nil {
		return state, 0, at, fmt.Errorf("state of log: %w", err)
	}
	if state, version, err = Load(ctx, b.store, a, tenant, id); err != nil {
		return state, 0, at, err
	}
	return a.SeenFrom(state, own.ID.Site), version, own.Durable, nil
}

// LoadAt is Load as of a version: of the stream's events in canonical order, as the log holds them now, those after it are not
// folded. A stream that is not that long yet gives eventstore.ErrNotFound.
func LoadAt[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string, version uint64,
) (state S, err error) {
	if version == 0 {
		return a.zero(), nil
	}
	state, got, err := load(ctx, store, a, tenant, id, func(place uint64, _ *eventstore.Recorded) bool { return place <= version })
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
	if _, err = store.VersionAt(ctx, stream, at); err != nil {
		return state, 0, fmt.Errorf("load stream %s as of %s: %w", stream, at, err)
	}
	// What the log has received since may stand anywhere in the stream.
	return load(ctx, store, a, tenant, id, func(_ uint64, r *eventstore.Recorded) bool { return r.Position.LSN <= at.LSN })
}

// load folds the events that belong, by their places in the stream from 1 on; all when belongs is nil.
func load[S, C, E any](
	ctx context.Context, store eventstore.Reader, a Aggregate[S, C, E], tenant, id string, belongs func(uint64, *eventstore.Recorded) bool,
) (state S, version uint64, err error) {
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	f := folded{stream: eventstore.StreamID{Tenant: tenant, Category: a.Category, ID: id}, state: newInstance(&a)}
	var from streamReader = store
	if belongs != nil {
		from = &chosen{store, belongs}
	}
	if _, _, err := f.readOn(ctx, from, func() instance { return newInstance(&a) }); err != nil {
		return state, 0, err
	}
	return f.state.(*typedInstance[S, C, E]).state, f.version, nil
}

// streamReader is what folding asks of a store.
type streamReader interface {
	Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error]
}

// chosen reads streams as if some of their events were not there.
type chosen struct {
	store   eventstore.Reader
	belongs func(place uint64, r *eventstore.Recorded) bool
}

// Read implements streamReader. REQUIRES: from is 1.
func (c *chosen) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		place := uint64(0)
		for r, err := range c.store.Read(ctx, stream, from) {
			if place++; err == nil && !c.belongs(place, &r) {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

package groups

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tributary-es/tributary/eventstore"
)

// Groups are the groups of one log. Only one Groups may be open on a log.
type Groups struct {
	store   eventstore.Store
	options Options
	log     eventstore.LogID

	life context.Context // ends with Close
	die  context.CancelFunc
	work sync.WaitGroup // of the coordinators

	making sync.Mutex // held while a group is made or deleted

	mu     sync.Mutex // guards what follows
	groups map[string]*known
	closed bool
}

// known is a group that there is. Where it stands is read when it is first used.
type known struct {
	settings Settings
	stream   eventstore.StreamID
	loading  sync.Mutex // guards what follows
	loaded   *group
	closed   bool
}

// Open finds the groups of a log. The caller must Close them before the store.
func Open(ctx context.Context, store eventstore.Store, o Options) (*Groups, error) {
	state, err := store.Log(ctx)
	if err != nil {
		return nil, fmt.Errorf("open groups: %w", err)
	}
	gs := &Groups{store: store, options: o.withDefaults(), log: state.ID, groups: map[string]*known{}}
	filter := eventstore.Filter{Tenant: eventstore.DefaultTenant, Categories: []string{category}, Types: []string{createdType, deletedType}}
	for e, err := range store.ReadAll(ctx, eventstore.Position{}, filter) {
		if err != nil {
			return nil, fmt.Errorf("open groups: %w", err)
		}
		if !gs.own(&e) {
			continue
		}
		if e.Type == deletedType {
			delete(gs.groups, nameOf(e.Stream))
			continue
		}
		var c created
		if err := json.Unmarshal(e.Payload, &c); err != nil {
			return nil, fmt.Errorf("open groups: event at %s: %w", e.Position, errors.Join(eventstore.ErrCorrupt, err))
		}
		gs.groups[nameOf(e.Stream)] = &known{settings: c.Settings, stream: e.Stream}
	}
	gs.life, gs.die = context.WithCancel(context.Background())
	return gs, nil
}

// own reports whether a group's event was written here: other sites have groups of the same names, with cursors of their own.
func (gs *Groups) own(e *eventstore.Recorded) bool {
	return e.Dot.Log.Site == gs.log.Site && e.Dot.Log.Shard == gs.log.Shard
}

// Close ends all members with eventstore.ErrClosed and writes the last checkpoints. It is safe to call twice.
func (gs *Groups) Close() error {
	gs.mu.Lock()
	closed, all := gs.closed, slices.Collect(maps.Values(gs.groups))
	gs.closed = true
	gs.mu.Unlock()
	if closed {
		return nil
	}
	var loaded []*group
	for _, k := range all {
		if g := k.close(); g != nil {
			loaded = append(loaded, g)
		}
	}
	gs.die()
	gs.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), gs.options.Timeout)
	defer cancel()
	var errs []error
	for _, g := range loaded {
		errs = append(errs, g.close(ctx))
	}
	return errors.Join(errs...)
}

// close has the group start no more, and returns it if it was ever used.
func (k *known) close() *group {
	k.loading.Lock()
	defer k.loading.Unlock()
	k.closed = true
	if g := k.loaded; g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.closing = true
	}
	return k.loaded
}

// close ends the group with a last checkpoint.
func (g *group) close(ctx context.Context) error {
	err := g.save(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone != nil {
		return nil
	}
	g.end(eventstore.ErrClosed)
	return err
}

// position returns the position of an lsn in this life of the log.
func (gs *Groups) position(lsn uint64) eventstore.Position {
	return eventstore.Position{Incarnation: gs.log.Incarnation, LSN: lsn}
}

// Create makes a group that begins where its settings say. When it is there already with the same settings, nothing is
// done and made is false. Errors: ErrExists, eventstore.ErrInvalid, eventstore.ErrWrongIncarnation when it is to start at
// a position that is not of this log, and those of Append.
func (gs *Groups) Create(ctx context.Context, name string, s Settings) (made bool, err error) {
	if err := errors.Join(validateName(name), s.normalize()); err != nil {
		return false, err
	}
	gs.making.Lock()
	defer gs.making.Unlock()
	switch k, err := gs.find(name); {
	case err == nil && k.settings.equal(&s):
		return false, nil
	case err == nil:
		return false, fmt.Errorf("group %s: %w", name, ErrExists)
	case !errors.Is(err, eventstore.ErrNotFound):
		return false, err
	}
	cursor, err := gs.start(ctx, s.Start)
	if err != nil {
		return false, fmt.Errorf("make group %s: %w", name, err)
	}
	stream := streamAt(name, gs.log.Site)
	version, err := gs.store.Version(ctx, stream) // that of one that was deleted
	if err != nil {
		return false, fmt.Errorf("make group %s: %w", name, err)
	}
	if err := appendEvent(ctx, gs.store, stream, version, createdType, created{s, cursor}, ""); err != nil {
		return false, fmt.Errorf("make group %s: %w", name, err)
	}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.groups[name] = &known{settings: s, stream: stream}
	return true, nil
}

// start returns the cursor of a group that begins there.
func (gs *Groups) start(ctx context.Context, s Start) (uint64, error) {
	state, err := gs.store.Log(ctx)
	if err != nil {
		return 0, err
	}
	at := s.Position
	switch {
	case s.End:
		at = state.Durable
	case !s.Time.IsZero():
		if at, err = gs.store.PositionAt(ctx, s.Time); err != nil {
			return 0, err
		}
	}
	return at.LSN, at.Check(state.Durable)
}

// find returns a group that there is.
func (gs *Groups) find(name string) (*known, error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.closed {
		return nil, fmt.Errorf("groups: %w", eventstore.ErrClosed)
	}
	k := gs.groups[name]
	if k == nil {
		return nil, notFound(name)
	}
	return k, nil
}

// group returns a group, with where it stands.
func (gs *Groups) group(ctx context.Context, name string) (*group, error) {
	k, err := gs.find(name)
	if err != nil {
		return nil, err
	}
	k.loading.Lock()
	defer k.loading.Unlock()
	if k.closed {
		return nil, fmt.Errorf("groups: %w", eventstore.ErrClosed)
	}
	if k.loaded == nil {
		g := newGroup(gs, name, k)
		if err := g.load(ctx); err != nil {
			return nil, err
		}
		k.loaded = g
	}
	return k.loaded, nil
}

// Join makes a member of a group. At most capacity events are with it at a time. A member of the same name that is there
// is replaced: it ends with ErrReplaced, and what it has is handed out again.
func (gs *Groups) Join(ctx context.Context, name, member string, capacity int) (*Member, error) {
	switch {
	case member == "" || len(member) > maxReason/4 || !utf8.ValidString(member):
		return nil, fmt.Errorf("%w: name %q of a member must be valid UTF-8 of 1 to %d bytes", eventstore.ErrInvalid, member, maxReason/4)
	case capacity < 1 || capacity > MaxCapacity:
		return nil, fmt.Errorf("%w: a capacity of %d, use 1 to %d", eventstore.ErrInvalid, capacity, MaxCapacity)
	}
	g, err := gs.group(ctx, name)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone != nil {
		return nil, g.gone
	}
	if g.closing {
		return nil, fmt.Errorf("groups: %w", eventstore.ErrClosed)
	}
	if old := g.members[member]; old != nil {
		old.giveUp(ErrReplaced, fmt.Sprintf("member %s joined again before it was settled", member))
	}
	m := &Member{group: g, name: member, capacity: capacity, held: map[*item]struct{}{}, done: make(chan struct{})}
	g.members[member] = m
	g.start()
	return m, nil
}

// Reset has the group begin again after a position, or where Start says: what is in flight is taken back, and what was
// settled or parked is forgotten. An event in the group's stream says who asked, from where to where.
func (gs *Groups) Reset(ctx context.Context, name string, to Start, actor string) (eventstore.Position, error) {
	g, err := gs.group(ctx, name)
	if err != nil {
		return eventstore.Position{}, err
	}
	check := Settings{Start: to}
	if err := check.normalize(); err != nil {
		return eventstore.Position{}, err
	}
	cursor, err := gs.start(ctx, check.Start)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("reset group %s: %w", name, err)
	}
	g.saving.Lock()
	defer g.saving.Unlock()
	g.mu.Lock()
	from, _ := g.settledTo()
	event := reset{Cursor: cursor, From: from, Dropped: len(g.parked)}
	g.mu.Unlock()
	if err := g.write(ctx, resetType, event, actor); err != nil {
		return eventstore.Position{}, fmt.Errorf("reset group %s: %w", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone != nil {
		return eventstore.Position{}, g.gone
	}
	g.stop()
	clear(g.lanes)
	clear(g.parked)
	clear(g.tried)
	g.readTo, g.above = cursor, nil
	g.checkpoint = checkpointState{cursor: cursor, version: g.checkpoint.version, at: time.Now()}
	if len(g.members) > 0 && !g.closing {
		g.start()
		g.dispatch()
	}
	return gs.position(cursor), nil
}

// Delete ends a group and its members. The events that tell of it stay in the log, and so does who deleted it.
func (gs *Groups) Delete(ctx context.Context, name, actor string) error {
	gs.making.Lock()
	defer gs.making.Unlock()
	g, err := gs.group(ctx, name)
	if err != nil {
		return err
	}
	g.saving.Lock()
	defer g.saving.Unlock()
	if err := g.write(ctx, deletedType, struct{}{}, actor); err != nil {
		return fmt.Errorf("delete group %s: %w", name, err)
	}
	gs.mu.Lock()
	delete(gs.groups, name)
	gs.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.end(notFound(name))
	return nil
}

package groups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Info says how a group is.
type Info struct {
	Name     string
	Settings Settings
	// Cursor is the position up to which everything is settled or parked, Checkpointed the one that a crash would go back
	// to, Head the log's.
	Cursor, Checkpointed, Head eventstore.Position
	// Lag is how many entries of the log are after the cursor, those included that the group does not want.
	Lag uint64
	// Waiting is how many events were read and are neither settled nor with a member, InFlight how many are with members.
	Waiting, InFlight int
	// Parked is how many events are parked, those that wait behind them not counted.
	Parked  int
	Members []MemberInfo
	// Problem is what keeps the group from going on; empty when all is well.
	Problem string
}

// MemberInfo says how a member is.
type MemberInfo struct {
	Name               string
	Capacity, InFlight int
}

// Parked is an event that was set aside.
type Parked struct {
	Stream   eventstore.StreamID
	Version  uint64
	Position eventstore.Position
	Type     string
	Reason   string
	Tries    int
	At       time.Time
	// Behind is how many later events of the stream wait behind it, those included that the group does not want.
	Behind uint64
	// Retrying: it is being handed out again.
	Retrying bool
}

// List says how all groups are, sorted by name.
func (gs *Groups) List(ctx context.Context) ([]Info, error) {
	gs.mu.Lock()
	names := slices.Sorted(maps.Keys(gs.groups))
	gs.mu.Unlock()
	out := make([]Info, 0, len(names))
	for _, name := range names {
		info, err := gs.Describe(ctx, name)
		switch {
		case errors.Is(err, eventstore.ErrNotFound): // was deleted in between
		case err != nil:
			return nil, err
		default:
			out = append(out, info)
		}
	}
	return out, nil
}

// Describe says how a group is.
func (gs *Groups) Describe(ctx context.Context, name string) (Info, error) {
	g, err := gs.group(ctx, name)
	if err != nil {
		return Info{}, err
	}
	state, err := gs.store.Log(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("describe group %s: %w", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	cursor, _ := g.settledTo()
	info := Info{
		Name: name, Settings: g.settings, Cursor: gs.position(cursor), Checkpointed: gs.position(g.checkpoint.cursor),
		Head: state.Durable, Lag: state.Durable.LSN - min(cursor, state.Durable.LSN), Parked: len(g.parked), Problem: g.problem,
	}
	for _, m := range g.members {
		info.Members = append(info.Members, MemberInfo{m.name, m.capacity, len(m.held)})
		info.InFlight += len(m.held)
	}
	slices.SortFunc(info.Members, func(a, b MemberInfo) int { return cmp.Compare(a.Name, b.Name) })
	for _, l := range g.lanes {
		info.Waiting += len(l.queue)
	}
	info.Waiting -= info.InFlight
	return info, nil
}

// ListParked lists what a group has parked, in the order of the log.
func (gs *Groups) ListParked(ctx context.Context, name string) ([]Parked, error) {
	g, err := gs.group(ctx, name)
	if err != nil {
		return nil, err
	}
	out, until := g.listParked()
	for i := range out {
		p := &out[i]
		last, err := gs.store.VersionAt(ctx, p.Stream, gs.position(until[i]))
		if err != nil {
			return nil, fmt.Errorf("what group %s has parked: %w", name, err)
		}
		p.Behind = last - min(last, p.Version)
	}
	return out, nil
}

func (g *group) listParked() (out []Parked, until []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range g.parkedKeys() {
		p := g.parked[key]
		out = append(out, Parked{
			Stream: key.stream, Version: p.version, Position: g.owner.position(p.position), Type: p.typ,
			Reason: p.reason, Tries: p.tries, At: p.at, Retrying: p.retry,
		})
		until = append(until, p.until)
	}
	return out, until
}

// RetryParked has parked events handed out again, with all their tries: the one at a position, or all with the zero
// position. Those of their streams that wait behind them follow. It returns how many events were parked, and is durable.
func (gs *Groups) RetryParked(ctx context.Context, name string, at eventstore.Position) (int, error) {
	return gs.unpark(ctx, name, at, func(*parked) {})
}

// SkipParked leaves a parked event out for good, and has those of its stream that wait behind it handed out. It is durable.
func (gs *Groups) SkipParked(ctx context.Context, name string, at eventstore.Position) error {
	if at.IsZero() {
		return fmt.Errorf("%w: name the position of the event to skip", eventstore.ErrInvalid)
	}
	_, err := gs.unpark(ctx, name, at, func(p *parked) { p.version++ })
	return err
}

// unpark has what is parked go on, after a change, and writes a checkpoint.
func (gs *Groups) unpark(ctx context.Context, name string, at eventstore.Position, change func(*parked)) (int, error) {
	g, err := gs.group(ctx, name)
	if err != nil {
		return 0, err
	}
	n := g.goOnWithParked(at, gs.log.Incarnation, change)
	if n == 0 && !at.IsZero() {
		return 0, fmt.Errorf("group %s: nothing is parked at %s, or it is being handed out again: %w", name, at, eventstore.ErrNotFound)
	}
	if err := g.save(ctx); err != nil {
		return n, err
	}
	return n, nil
}

func (g *group) goOnWithParked(at eventstore.Position, incarnation uint32, change func(*parked)) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range g.parkedKeys() {
		p := g.parked[key]
		if p.retry || !at.IsZero() && (at.LSN != p.position || at.Incarnation != incarnation) {
			continue
		}
		change(p)
		p.retry = true
		n++
		g.checkpoint.parkedChanged = true
		g.problem = ""
		if g.running {
			g.refill(g.lanes[key])
		}
	}
	return n
}

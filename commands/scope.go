package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// scope is what an attempt decides over a query.
type scope struct {
	decider scoper
	query   eventstore.Query
	// key is that of the query: those who decide on the same take turns.
	key eventstore.StreamID

	// narrow is folded over the query, and wide over what the decider asked for beside it, nil when it asked for nothing.
	narrow, wide *gathered
	// released: the lock was given on, and the states belong to the cache again.
	released bool
}

// gathered is what has been folded of the events that a query matches: a state, and how far the log was read for it.
//
// INVARIANT: state plus pending is the fold of all events of the tenant that the query matches up to the position at. It
// may be behind the log, never ahead of what is durable. Where the log holds what other sites have recorded, that is of those that
// count, in canonical order, and it serves one attempt: see readJudged.
type gathered struct {
	id      eventstore.StreamID // its key
	decider string
	query   eventstore.Query
	state   scopeFold
	at      eventstore.Position
	// pending are the last events up to at, which this process appended and nobody needed the effect of yet.
	pending []eventstore.Recorded
	events  uint64 // how many are folded

	// For the attempt that uses it: fresh when it was read up to what was durable, seen is how many events of the message
	// were looked at, and ahead says that some of those are folded, which the log does not have yet.
	fresh bool
	seen  int
	ahead bool
	// judged: it was read by readJudged.
	judged bool

	footprint
	born
}

func (g *gathered) key() eventstore.StreamID { return g.id }

func (g *gathered) bytes() int {
	n := entryBytes + g.measure(g.events, g.state.size) + 2*len(g.id.ID)
	for i := range g.pending {
		n += len(g.pending[i].Payload) + pendingBytes
	}
	return n
}

// scopeKey returns the key of a query for locks and cache: an id that no stream has, since no category begins with "?".
func scopeKey(tenant, decider string, q eventstore.Query) eventstore.StreamID {
	return eventstore.StreamID{Tenant: tenant, Category: "?" + decider, ID: q.String()}
}

// checkOutScopes gets the states over the queries that the caller has locked.
func (b *Bus) checkOutScopes(ctx context.Context, p *plan) (err error) {
	for _, s := range p.scopes {
		if s.narrow, err = b.gather(ctx, p, s.decider, s.query); err != nil {
			return err
		}
	}
	for _, s := range p.scopes {
		if p.refresh {
			if err := b.readOn(ctx, p, s.narrow); err != nil {
				return err
			}
		}
	}
	return nil
}

// gather gets the state over a query: from the cache, or from the log. With p.refresh, a state from the cache is brought up to
// the place in the log that all of the attempt stands at.
func (b *Bus) gather(ctx context.Context, p *plan, d scoper, q eventstore.Query) (*gathered, error) {
	key := scopeKey(p.message.Tenant, d.name(), q)
	g, found := b.cache.take(key).(*gathered)
	if found {
		if _, err := b.standpoint(ctx, p); err != nil {
			return nil, err
		}
	}
	if !found || p.several {
		b.counters.misses.Add(1)
		// What is read from the beginning stands at the log's end. The rest of the attempt has to stand there too, or else an
		// event between the two places would be taken for one that nobody has seen.
		p.refresh = true
		g = &gathered{id: key, decider: d.name(), query: q, state: d.newFold(b.decode), born: b.cache.birth()}
	} else {
		b.counters.hits.Add(1)
		g.fresh, g.seen, g.ahead = false, 0, false
		if err := b.foldPendingOf(g); err != nil {
			return nil, err
		}
	}
	if p.refresh {
		if err := b.readOn(ctx, p, g); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// readOn folds what the log has for a state, up to the place that all of the attempt stands at. After an error the state is
// of no use.
func (b *Bus) readOn(ctx context.Context, p *plan, g *gathered) error {
	upTo, err := b.standpoint(ctx, p)
	if err != nil || g.fresh {
		return err
	}
	g.fresh = true
	if g.at.LSN >= upTo.LSN {
		return nil
	}
	if p.several {
		return b.readJudged(ctx, p, g, upTo)
	}
	for r, err := range b.store.ReadAll(ctx, g.at, eventstore.Filter{Tenant: p.message.Tenant, Query: g.query}) {
		if err != nil {
			return fmt.Errorf("read events of %s: %w", g.query, err)
		}
		if r.Position.LSN > upTo.LSN {
			break
		}
		if err := b.foldOnto(g, &r); err != nil {
			return err
		}
	}
	g.at = upTo
	return nil
}

// readJudged folds from the beginning what counts of all that a query matches, in canonical order: what other sites have recorded
// comes anywhere in that order, and may have events that came before it not count any more, which need not be of those that match.
// REQUIRES: nothing is folded.
func (b *Bus) readJudged(ctx context.Context, p *plan, g *gathered, upTo eventstore.Position) error {
	var events []eventstore.Recorded
	void := map[eventstore.StreamID]map[eventstore.Dot]string{}
	for r, err := range b.store.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Tenant: p.message.Tenant, Query: g.query}) {
		if err != nil {
			return fmt.Errorf("read events of %s: %w", g.query, err)
		}
		if r.Position.LSN > upTo.LSN {
			break
		}
		events = append(events, r)
		void[r.Stream] = nil
	}
	for stream := range void {
		var err error
		if void[stream], err = b.Void(ctx, stream); err != nil {
			return fmt.Errorf("judge what %s matches: %w", g.query, err)
		}
	}
	slices.SortFunc(events, func(x, y eventstore.Recorded) int { return x.CompareCanonical(&y) })
	for i := range events {
		if _, no := void[events[i].Stream][events[i].Dot]; no {
			continue
		}
		if err := b.foldOnto(g, &events[i]); err != nil {
			return err
		}
	}
	g.at, g.judged = upTo, true
	return nil
}

// standpoint returns the place up to which the attempt reads the log for what it has to read, and notes whether other sites have
// recorded something before it. Both are asked once an attempt: a state that was taken from the cache because there are no others
// would be folded over again if there were some when it is read on, and the condition of the append would not notice.
func (b *Bus) standpoint(ctx context.Context, p *plan) (eventstore.Position, error) {
	if !p.stands {
		state, err := b.logState(ctx)
		if err != nil {
			return eventstore.Position{}, err
		}
		if p.several, err = b.hasOthers(ctx, state); err != nil {
			return eventstore.Position{}, err
		}
		p.standpoint, p.stands = state.Durable, true
	}
	return p.standpoint, nil
}

func (b *Bus) logState(ctx context.Context) (eventstore.LogState, error) {
	state, err := b.store.Log(ctx)
	if err != nil {
		return state, fmt.Errorf("state of log: %w", err)
	}
	return state, nil
}

// hasOthers reports whether the log, in a state that it was in just now, holds what several sites have recorded. Once it does, it always
// will. Of a log in its first life that has as many events of its own as there are, nothing more has to be asked.
func (b *Bus) hasOthers(ctx context.Context, state eventstore.LogState) (bool, error) {
	if b.others.Load() {
		return true, nil
	}
	replica, ok := b.store.(interface {
		Heads(ctx context.Context) ([]eventstore.LogHead, error)
	})
	if !ok || state.Seq == state.Durable.LSN {
		return false, nil
	}
	heads, err := replica.Heads(ctx)
	if err != nil && !errors.Is(err, eventstore.ErrUnsupported) {
		return false, fmt.Errorf("ask which logs are held: %w", err)
	}
	found := slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log.Site != heads[0].Log.Site })
	if found {
		b.others.Store(true)
	}
	return found, nil
}

func (b *Bus) foldOnto(g *gathered, r *eventstore.Recorded) error {
	if err := g.state.fold(r); err != nil {
		return &DeciderError{Decider: g.decider, Err: fmt.Errorf("event %s of stream %s: %w", r.Type, r.Stream, err)}
	}
	g.events++
	b.counters.folded.Add(1)
	return nil
}

// foldPendingOf folds what the log has and the state has not. After an error the state is of no use.
func (b *Bus) foldPendingOf(g *gathered) error {
	for i := range g.pending {
		if err := b.foldOnto(g, &g.pending[i]); err != nil {
			return err
		}
	}
	g.pending = nil
	return nil
}

// foldAhead folds the events of the message that the query matches, though they are not in the log yet.
func (b *Bus) foldAhead(p *plan, g *gathered) error {
	for ; g.seen < len(p.decided); g.seen++ {
		if r := &p.decided[g.seen]; g.query.Matches(r) {
			g.ahead = true
			if err := b.foldOnto(g, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// decideOver has a scope's decider decide a command.
func (b *Bus) decideOver(ctx context.Context, p *plan, s *scope, cmd any) ([]decision, error) {
	g, err := b.widened(ctx, p, s, cmd)
	if err != nil {
		return nil, err
	}
	events, err := g.state.decide(cmd, p.message.Tenant)
	if err != nil && eventstore.ClassOf(err) != eventstore.Rejected {
		return nil, &DeciderError{Decider: s.decider.name(), Err: fmt.Errorf("decide %T: %w", cmd, err)}
	}
	return events, err
}

// widened returns the state to decide a command on: the narrow one, or the wide one when the decider asks for more.
func (b *Bus) widened(ctx context.Context, p *plan, s *scope, cmd any) (*gathered, error) {
	if err := b.foldAhead(p, s.narrow); err != nil {
		return nil, err
	}
	more := s.narrow.state.widen(cmd)
	if len(more) == 0 {
		return s.narrow, nil
	}
	q := both(s.query, more)
	if s.wide != nil {
		q = both(s.wide.query, q)
	}
	if s.wide == nil || len(q) > len(s.wide.query) {
		if err := q.Validate(); err != nil {
			return nil, &DeciderError{Decider: s.decider.name(), Err: fmt.Errorf("widened query: %w", err)}
		}
		if err := b.decidableOver(more); err != nil {
			return nil, err
		}
		fresh := p.refresh
		wide, err := b.gather(ctx, p, s.decider, q)
		if err != nil {
			return nil, err
		}
		s.wide = wide
		if p.refresh && !fresh && !s.narrow.ahead {
			// The wide state was read up to the log's end: what to widen to is asked again there.
			if err := b.readOn(ctx, p, s.narrow); err != nil {
				return nil, err
			}
			return b.widened(ctx, p, s, cmd)
		}
	}
	return s.wide, b.foldAhead(p, s.wide)
}

// checkFreshScope returns a *stale error when the log has more for the scope than what was decided on.
func (b *Bus) checkFreshScope(ctx context.Context, p *plan, s *scope) error {
	g := s.decisive()
	if g == nil || s.narrow.fresh && g.fresh {
		return nil
	}
	c := s.condition()
	for r, err := range b.store.ReadAll(ctx, c.After, eventstore.Filter{Tenant: p.message.Tenant, Query: c.Query}) {
		if err != nil {
			return fmt.Errorf("read events of %s: %w", c.Query, err)
		}
		return &stale{fmt.Errorf("an event of %s was appended at %s", c.Query, r.Position)}
	}
	return nil
}

// decisive returns the widest state that was decided on, nil when there is none.
func (s *scope) decisive() *gathered {
	if s.wide != nil {
		return s.wide
	}
	return s.narrow
}

// condition says what must not have come since the scope's decisions.
func (s *scope) condition() eventstore.Condition {
	g := s.decisive()
	after := g.at
	if s.narrow.at.LSN < after.LSN {
		after = s.narrow.at
	}
	return eventstore.Condition{Query: g.query, After: after}
}

// condition is that of all scopes together, nil when there are none.
func (p *plan) condition() *eventstore.Condition {
	if len(p.scopes) == 0 {
		return nil
	}
	out := p.scopes[0].condition()
	for _, s := range p.scopes[1:] {
		c := s.condition()
		out.Query = both(out.Query, c.Query)
		if c.After.LSN < out.After.LSN {
			out.After = c.After
		}
	}
	return &out
}

// release lets others decide on what the message's own events do not touch, before these are appended: there is nothing in
// them that would have to be waited for. So a rule that seldom applies does not make those wait whom it does not concern.
func (b *Bus) release(p *plan) {
	for _, s := range p.scopes {
		if slices.ContainsFunc(p.decided, func(r eventstore.Recorded) bool { return s.decisive().query.Matches(&r) }) {
			continue
		}
		b.putBackScope(s)
		s.released = true
		b.locks.unlock(s.key)
		p.held = slices.DeleteFunc(p.held, func(k eventstore.StreamID) bool { return k == s.key })
	}
}

// putBackScope returns the states to the cache, apart from those that have folded events which are not in the log.
func (b *Bus) putBackScope(s *scope) {
	if s.released {
		return
	}
	for _, g := range []*gathered{s.narrow, s.wide} {
		if g != nil && !g.ahead && !g.judged {
			b.cache.put(g)
		}
	}
	s.narrow, s.wide = nil, nil
}

// committed records that the message's events are in the log, the last of them at a position. Up to there the log has no
// others that the query matches: that was the condition.
func (s *scope) committed(p *plan, at eventstore.Position) {
	if s.released {
		return
	}
	for _, g := range []*gathered{s.narrow, s.wide} {
		if g == nil {
			continue
		}
		for i := g.seen; i < len(p.decided); i++ {
			if g.query.Matches(&p.decided[i]) {
				g.pending = append(g.pending, p.decided[i])
			}
		}
		g.at, g.ahead = at, false
	}
}

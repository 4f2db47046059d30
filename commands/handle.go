package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// handle is the innermost Handler: it decides a message until its events are in the log or refused.
func (b *Bus) handle(ctx context.Context, m Message) (eventstore.Receipt, error) {
	p, err := b.plan(&m)
	if err != nil {
		return eventstore.Receipt{}, err
	}
	for attempt := 1; ; attempt++ {
		receipt, err := b.attempt(ctx, p, attempt > 1)
		var s *stale
		if !errors.As(err, &s) {
			return receipt, err
		}
		b.counters.conflicts.Add(1)
		if attempt >= b.options.MaxAttempts {
			return eventstore.Receipt{}, fmt.Errorf("%w: decided %d times, then %s", ErrContended, attempt, s.why.Error())
		}
		if err := pause(ctx, b.options.Backoff(attempt)); err != nil {
			return eventstore.Receipt{}, fmt.Errorf("dispatch after %d conflicts: %w", attempt, err)
		}
	}
}

// stale says that a decision was made on a state that the log has left behind, and has to be made again.
type stale struct{ why error }

func (s *stale) Error() string { return "decided on an old state: " + s.why.Error() }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt decides the message once, on states that are read up to the log's end first when refresh is set. It returns a
// *stale error when that has to be done again.
func (b *Bus) attempt(ctx context.Context, p *plan, refresh bool) (eventstore.Receipt, error) {
	p.reset(refresh)
	receipt, found, err := b.repeated(ctx, p)
	if found || err != nil {
		return receipt, err
	}
	if err := b.decidable(p); err != nil {
		return eventstore.Receipt{}, err
	}
	keys := p.keys()
	if err := b.locks.lockAll(ctx, keys); err != nil {
		return eventstore.Receipt{}, fmt.Errorf("wait for stream: %w", err)
	}
	p.held = keys
	defer func() { b.locks.unlockAll(p.held) }()
	receipt, err = b.decideAndAppend(ctx, p, refresh)
	// Not deferred: after a panic nobody knows what is folded in the states.
	b.putBack(p)
	return receipt, err
}

// decideAndAppend is the part of an attempt that is done with all streams and queries locked.
func (b *Bus) decideAndAppend(ctx context.Context, p *plan, refresh bool) (eventstore.Receipt, error) {
	b.counters.attempts.Add(1)
	for _, w := range p.work {
		if err := b.checkOut(ctx, w, refresh); err != nil {
			return eventstore.Receipt{}, err
		}
	}
	if err := b.checkOutScopes(ctx, p); err != nil {
		return eventstore.Receipt{}, err
	}
	err := p.checkExpect()
	if err == nil {
		err = p.checkRest()
	}
	if err == nil {
		err = b.decide(ctx, p)
	}
	if err != nil {
		return b.refuse(ctx, p, err)
	}
	// The append itself checks the streams that it adds to; the others are checked here.
	for _, w := range p.work {
		if len(w.decided) == 0 {
			if err := b.checkFresh(ctx, w); err != nil {
				return eventstore.Receipt{}, err
			}
		}
	}
	return b.append(ctx, p)
}

// repeated answers a message that was applied before with its receipt of that time.
func (b *Bus) repeated(ctx context.Context, p *plan) (r eventstore.Receipt, found bool, err error) {
	m := p.message
	if m.ID == "" {
		return r, false, nil
	}
	r, hash, err := b.store.Receipt(ctx, m.Tenant, m.ID)
	if errors.Is(err, eventstore.ErrNotFound) {
		return eventstore.Receipt{}, false, nil
	}
	if err != nil {
		return eventstore.Receipt{}, false, fmt.Errorf("look up receipt: %w", err)
	}
	same, err := b.sameRequest(ctx, m, r, hash)
	switch {
	case err != nil:
		return eventstore.Receipt{}, false, err
	case !same:
		return eventstore.Receipt{}, false, fmt.Errorf("%w: %q", eventstore.ErrIDReused, m.ID)
	case m.Durability > r.Reached:
		// The store's Append waits for the durability and appends nothing for an ID that it knows.
		r, err = b.store.Append(ctx, eventstore.Request{
			Tenant: m.Tenant, ID: m.ID, Hash: hash, Durability: m.Durability, Metadata: m.Metadata,
		})
		if err != nil && !errors.Is(err, eventstore.ErrDurabilityTimeout) {
			return eventstore.Receipt{}, false, fmt.Errorf("wait for durability: %w", err)
		}
	}
	b.counters.repeated.Add(1)
	r, nameErr := b.nameFirst(ctx, p, r)
	return r, true, errors.Join(err, nameErr)
}

// nameFirst makes sure that the receipt of an append names the first stream that a command is for.
func (b *Bus) nameFirst(ctx context.Context, p *plan, r eventstore.Receipt) (eventstore.Receipt, error) {
	if p.names(&r) {
		return r, nil
	}
	first := p.first()
	if first.folded != nil {
		return p.withFirst(r, first.version), nil
	}
	version, err := b.store.Version(ctx, first.stream)
	if err != nil {
		return r, fmt.Errorf("version of stream %s: %w", first.stream, err)
	}
	return p.withFirst(r, version), nil
}

// checkExpect compares what the caller believes of the first stream with the state that will be decided on.
func (p *plan) checkExpect() error {
	first, want := p.first(), p.message.Expect
	if want == eventstore.Any || want.Holds(first.version) {
		return nil
	}
	return &eventstore.ConflictError{Conflicts: []eventstore.StreamConflict{
		{Stream: first.stream, Want: want, Got: first.version},
	}}
}

// checkRest refuses a message that rests on an event which is void. Appends expect the streams as they were folded, so what
// has come meanwhile has this done again.
func (p *plan) checkRest() error {
	for _, w := range p.work {
		for _, dot := range w.void {
			if slices.Contains(p.message.RestsOn, dot) {
				return Reject(CodeVoid, fmt.Sprintf("event %s of stream %s, on which this rests, is void", dot, w.stream))
			}
		}
	}
	return nil
}

// decide runs the commands through their aggregates and deciders.
func (b *Bus) decide(ctx context.Context, p *plan) error {
	for _, s := range p.steps {
		w := s.work
		if w == nil {
			decisions, err := b.decideOver(ctx, p, s.scope, s.cmd)
			if err != nil {
				return err
			}
			for i := range decisions {
				if err := b.checkFrozen(&decisions[i].event); err != nil {
					return err
				}
				p.note(decisions[i].stream, &decisions[i].event)
				p.addLoose(decisions[i])
			}
			continue
		}
		// What earlier commands of the message decided for this stream is folded only now that somebody looks at it.
		if err := w.foldDecided(); err != nil {
			return err
		}
		events, err := w.decide(s.cmd)
		if err != nil {
			if eventstore.ClassOf(err) == eventstore.Rejected {
				return err
			}
			return &AggregateError{Stream: w.stream, Err: fmt.Errorf("decide %T: %w", s.cmd, err)}
		}
		w.decided = append(w.decided, events...)
		for i := range events {
			if err := b.checkFrozen(&events[i]); err != nil {
				return err
			}
			p.note(w.stream, &events[i])
		}
	}
	return nil
}

// refuse returns err, a refusal or a conflict with the caller's expectation, unless it was found on an old state, or the
// message was in truth applied a moment ago by another dispatch with the same ID.
func (b *Bus) refuse(ctx context.Context, p *plan, err error) (eventstore.Receipt, error) {
	if eventstore.ClassOf(err) != eventstore.Rejected {
		return eventstore.Receipt{}, err
	}
	for _, w := range p.work {
		if stale := b.checkFresh(ctx, w); stale != nil {
			return eventstore.Receipt{}, stale
		}
	}
	for _, s := range p.scopes {
		if stale := b.checkFreshScope(ctx, p, s); stale != nil {
			return eventstore.Receipt{}, stale
		}
	}
	if receipt, found, lookupErr := b.repeated(ctx, p); found || lookupErr != nil {
		return receipt, lookupErr
	}
	return eventstore.Receipt{}, err
}

// checkFresh returns a *stale error when the log has more of the stream than the state that was decided on.
func (b *Bus) checkFresh(ctx context.Context, w *work) error {
	if w.fresh {
		return nil
	}
	version, err := b.store.Version(ctx, w.stream)
	if err != nil {
		return fmt.Errorf("version of stream %s: %w", w.stream, err)
	}
	if version != w.version {
		return &stale{fmt.Errorf("stream %s is at version %d, not %d", w.stream, version, w.version)}
	}
	return nil
}

// append records what was decided.
func (b *Bus) append(ctx context.Context, p *plan) (eventstore.Receipt, error) {
	own, err := b.store.Log(ctx)
	if err != nil {
		return eventstore.Receipt{}, fmt.Errorf("state of log: %w", err)
	}
	request := p.request(own)
	if len(request.Appends) == 0 && request.ID == "" {
		for _, s := range p.scopes {
			if err := b.checkFreshScope(ctx, p, s); err != nil {
				return eventstore.Receipt{}, err
			}
		}
		return b.nameFirst(ctx, p, eventstore.Receipt{First: own.Durable, Position: own.Durable, Dot: eventstore.Dot{Log: own.ID, Seq: own.Seq}})
	}
	if err := b.checkSealed(&request); err != nil {
		return eventstore.Receipt{}, err
	}
	b.release(p)
	receipt, err := b.store.Append(ctx, request)
	switch {
	case err == nil, errors.Is(err, eventstore.ErrDurabilityTimeout):
		if !receipt.Duplicate {
			p.committed(receipt.First)
			for _, s := range p.scopes {
				s.committed(p, receipt.Position)
			}
		} else {
			b.counters.repeated.Add(1)
		}
		receipt, nameErr := b.nameFirst(ctx, p, receipt)
		return receipt, errors.Join(err, nameErr)
	case errors.Is(err, eventstore.ErrConflict):
		return eventstore.Receipt{}, &stale{err}
	}
	return eventstore.Receipt{}, fmt.Errorf("append: %w", err)
}

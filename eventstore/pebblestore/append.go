package pebblestore

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Append implements eventstore.Appender.
func (s *Store) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	p, receipt, err := s.ready(ctx, &r)
	if p == nil {
		return receipt, err
	}
	if err := s.stall.enter(ctx, p, s.room, s.opts.MaxQueueBytes); err != nil {
		p.giveBack()
		return eventstore.Receipt{}, err
	}
	s.put(p)
	if left := ctx.Done(); left != nil {
		select {
		case <-p.done:
		case <-left:
			return eventstore.Receipt{}, ctx.Err() // the request is the sequencer's or the committer's
		}
	} else {
		<-p.done
	}
	receipt, err = p.receipt, p.err
	p.giveBack()
	return receipt, err
}

// ready does all that comes before a request's place in the queue. Without a pending the request is answered.
func (s *Store) ready(ctx context.Context, r *eventstore.Request) (*pending, eventstore.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, eventstore.Receipt{}, err
	}
	if err := s.writable(); err != nil {
		return nil, eventstore.Receipt{}, err
	}
	if err := r.Normalize(); err != nil {
		return nil, eventstore.Receipt{}, err
	}
	if err := r.Supported(); err != nil {
		return nil, eventstore.Receipt{}, err
	}
	p := s.prepare(ctx, r)
	if receipt, found, err := s.check(p); found || err != nil {
		p.giveBack()
		return nil, receipt, err
	}
	return p, eventstore.Receipt{}, nil
}

// put gives requests that have room to the sequencer, in their order.
func (s *Store) put(all ...*pending) {
	err := s.space.err() // it may have filled while others were waited for
	if err == nil && !s.queue.put(all...) {
		err = eventstore.ErrClosed
	}
	if err != nil {
		for _, p := range all {
			p.answer(eventstore.Receipt{}, err)
		}
	}
}

// writable says why the store takes no appends.
func (s *Store) writable() error {
	if err := s.failed(); err != nil {
		return err
	}
	return s.space.err()
}

// failed says why the store takes no appends for as long as it is open.
func (s *Store) failed() error {
	if fault := s.readOnly.Load(); fault != nil {
		return *fault
	}
	return nil
}

// check looks up what is durable: whether the request was applied before (then it returns what to answer), the versions
// of its streams, and what its condition meets.
func (s *Store) check(p *pending) (receipt eventstore.Receipt, found bool, err error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return receipt, false, eventstore.ErrClosed
	}
	unknown, turns := p.lookRecent(s.recent)
	for _, i := range unknown {
		stream := p.request.Appends[i].Stream
		if p.heads[i], err = s.indexedHead(stream, p.keys[i]); err != nil {
			return receipt, false, err
		}
		s.recent.remember(stream, p.heads[i], turns)
	}
	if p.request.ID != "" {
		batch, err := s.lookRequest(p.key(), p.digests)
		if err != nil {
			return receipt, false, err
		}
		if batch != nil {
			receipt, err = repeated(p, batch[0].RequestHash, eventstore.ReceiptOf(batch))
			return receipt, true, err
		}
	}
	if p.request.Condition != nil {
		p.met, err = s.checkCondition(p)
	}
	return receipt, false, err
}

// lookRecent fills in the heads that are known in memory, and returns the places of the others.
func (p *pending) lookRecent(r *recent) (unknown []int, turns int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p.checked = r.durable.lsn
	for i := range p.request.Appends {
		head, known := r.headLocked(p.keys[i])
		if !known {
			unknown = append(unknown, i)
		}
		p.heads[i] = head
	}
	return unknown, r.turns
}

// Receipt implements eventstore.Appender.
func (s *Store) Receipt(ctx context.Context, tenant, id string) (eventstore.Receipt, eventstore.Hash, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.Receipt{}, eventstore.Hash{}, err
	}
	defer release()
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	k := requestKey{tenant, id}
	batch, err := s.lookRequest(k, k.digests())
	if err != nil {
		return eventstore.Receipt{}, eventstore.Hash{}, err
	}
	if batch == nil {
		return eventstore.Receipt{}, eventstore.Hash{}, fmt.Errorf("receipt of request %q: %w", id, eventstore.ErrNotFound)
	}
	receipt := eventstore.ReceiptOf(batch)
	receipt.Duplicate = true
	return receipt, batch[0].RequestHash, nil
}

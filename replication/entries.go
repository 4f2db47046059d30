package replication

import (
	"context"
	"log/slog"

	"github.com/tributary-es/tributary/eventstore"
)

// Recorder puts on record what the core has to say about takeovers. A *Owner is one.
type Recorder interface {
	// Enter returns when an entry is durable, or why it is not. Repeated, it has one effect.
	Enter(ctx context.Context, e Entry) error
}

// OnRecord tells the site events of takeovers that are durable here, in the order of the log, each once: first all that there are. It returns
// when the site goes by them.
func (s *Site) OnRecord(ctx context.Context, events []eventstore.Recorded) error {
	stepped := make(chan struct{})
	if err := s.put(ctx, OnRecord{events, stepped}); err != nil {
		return err
	}
	select {
	case <-stepped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		return ErrStopped
	}
}

// TakePart tells the site which sites are on record as taking part.
func (s *Site) TakePart(ctx context.Context, m Members) error { return s.put(ctx, m) }

// setGrants has what is said between heartbeats say whose leases are acknowledged. It comes before anything of the core's is put on record.
func (r *run) setGrants() {
	grants := r.core.grants()
	r.grants.Store(&grants)
}

// enter has entries put on record, one after the other. While some are being put there no others are: they come again.
func (r *run) enter(entries []Entry) {
	if len(entries) == 0 || r.o.Recorder == nil || !r.entering.CompareAndSwap(false, true) {
		return
	}
	r.carriers.Go(func() {
		defer r.entering.Store(false)
		for i := range entries {
			if err := r.o.Recorder.Enter(r.ctx, entries[i]); err != nil && r.ctx.Err() == nil {
				r.log.Log(r.ctx, failing(r.start), "what is to be on record about a takeover is not, and is tried again", slog.String("entry", entries[i].String()), slog.Any("error", err))
			}
		}
	})
}

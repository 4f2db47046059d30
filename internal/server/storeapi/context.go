package storeapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// checkContexts refuses a request of which a stream's context names events that are not here. What is recorded stands behind all
// that the log has, and so behind what it was decided with: with such a context it would not.
func (s *Service) checkContexts(ctx context.Context, r *eventstore.Request) error {
	first := 0
	for first < len(r.Appends) && len(r.Appends[first].Context) == 0 {
		first++
	}
	if first == len(r.Appends) {
		return nil
	}
	state, err := s.Store.Log(ctx)
	if err != nil {
		return err
	}
	heads := []eventstore.LogHead{{Log: state.ID, Seq: state.Seq}}
	if s.Heads != nil {
		if heads, err = s.Heads(ctx); err != nil {
			return err
		}
	}
	for i := first; i < len(r.Appends); i++ {
		for _, known := range r.Appends[i].Context {
			if err := isHere(known, state.ID, heads); err != nil {
				return fmt.Errorf("stream %s: %w", r.Appends[i].Stream, err)
			}
		}
	}
	return nil
}

// isHere returns an error unless the log named own holds all that an entry of a context covers: eventstore.ErrInvalid when it never
// can, eventstore.ErrUnavailable when it may be on its way from another site.
func isHere(known eventstore.Dot, own eventstore.LogID, heads []eventstore.LogHead) error {
	i := slices.IndexFunc(heads, func(h eventstore.LogHead) bool { return h.Log == known.Log })
	switch {
	case i < 0:
		logs := make([]string, len(heads))
		for i, h := range heads {
			logs[i] = h.Log.String()
		}
		return fmt.Errorf("%w: its context names the log %s, of which nothing is here; name those whose events were read here: %s",
			eventstore.ErrInvalid, known.Log, strings.Join(logs, ", "))
	case known.Seq <= heads[i].Seq:
		return nil
	case known.Log == own:
		return fmt.Errorf("%w: its context goes to seq %d of %s, which ends at %d", eventstore.ErrInvalid, known.Seq, known.Log, heads[i].Seq)
	}
	return fmt.Errorf("%w: its context goes to seq %d of %s, which is here up to %d; nothing was appended, try again when the rest has come",
		eventstore.ErrUnavailable, known.Seq, known.Log, heads[i].Seq)
}

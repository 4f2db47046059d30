package replication

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Holder is another site, as far as it gives back what this one has lost of any log. What it gives is not believed: whoever asks
// proves it.
type Holder struct {
	name string
	peer Peer
}

// Holders returns the other sites that can be asked now, by their names.
func (s *Site) Holders() []Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Holder
	for name, peer := range s.o.Peers {
		all = append(all, Holder{name, peer})
	}
	slices.SortFunc(all, func(a, b Holder) int { return strings.Compare(a.name, b.name) })
	return all
}

// String names the site.
func (h Holder) String() string { return "site " + h.name }

// holderPatience bounds how long a site may take for a piece.
const holderPatience = 10 * time.Second

// Events yields the events of a log from the one after a seq on, in whole batches of which the last begins at another seq or before. A
// site that is away, or has less, ends it with an error.
func (h Holder) Events(ctx context.Context, log eventstore.LogID, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for after < through {
			events, err := h.piece(ctx, Pull{Site: h.name, Log: log, After: after, Through: through})
			if err == nil && len(events) == 0 {
				err = fmt.Errorf("%s has %s up to seq %d: %w", h, log, after, eventstore.ErrNotFound)
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			before := after
			for i := range events {
				if !yield(events[i], nil) {
					return
				}
				after = max(after, events[i].Dot.Seq)
			}
			if after == before {
				yield(eventstore.Recorded{}, fmt.Errorf("%s answers for what follows seq %d of %s with what does not: %w", h, after, log, eventstore.ErrCorrupt))
				return
			}
		}
	}
}

func (h Holder) piece(ctx context.Context, p Pull) ([]eventstore.Recorded, error) {
	ctx, cancel := context.WithTimeout(ctx, holderPatience)
	defer cancel()
	_, events, err := h.peer.Pull(ctx, p)
	return events, err
}

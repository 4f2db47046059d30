package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// leaveAsked is for how long a site that was asked to leave, and has not left, counts as one that leaves: who has it leave asks again and
// again, and who asks no more has given it up.
const leaveAsked = 10 * time.Second

// leaving is whether the site is asked to leave at present. It is safe for concurrent use.
type leaving struct {
	mu   sync.Mutex // guards what follows
	busy int        // requests that are answered at present
	last time.Time  // when one was answered, or begun, last; zero: none was, or it is over
}

// begin says that the site is asked to leave, until the function that it returns is called and leaveAsked has passed since.
func (l *leaving) begin() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy++
	l.last = time.Now()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy--
		if !l.last.IsZero() {
			l.last = time.Now()
		}
	}
}

// over says that the site has left, or stays.
func (l *leaving) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Time{}
}

// now reports whether the site is asked to leave.
func (l *leaving) now() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.last.IsZero() && (l.busy > 0 || time.Since(l.last) < leaveAsked)
}

// successors returns the other sites that are heard, take writes and are not asked to leave, and those that are asked to leave; an error when
// there is none of the former.
func (m members) successors(ctx context.Context) (take, leave []string, err error) {
	if take, leave, err = m.n.heardOthers(ctx); err != nil || len(take) > 0 {
		return take, leave, err
	}
	if len(leave) > 0 {
		return nil, leave, fmt.Errorf("%w: no site would be left to go on: %s leaves as well, and no other is heard and takes writes; have one of them stay: end its sites leave, then tributary sites readonly off, asked there, or wait for %s, and have the other leave again",
			eventstore.ErrInvalid, strings.Join(leave, ", "), leaveAsked)
	}
	return nil, nil, fmt.Errorf("%w: no other site is heard and takes writes, so that it could go on", eventstore.ErrInvalid)
}

// heardOthers returns the other sites that are heard, and say how they are: those that take writes and what they are given, and those that are
// asked to leave.
func (n *Node) heardOthers(ctx context.Context) (take, leave []string, err error) {
	for _, site := range n.participants()[1:] {
		heard, err := n.sites.hears(ctx, site)
		if err != nil {
			return nil, nil, err
		}
		if !heard {
			continue
		}
		switch s := n.sites.says(ctx, site); {
		case s == nil: // it may have gone just now: what it is given now nobody could use
		case s.GetLeaving():
			leave = append(leave, site)
		case refusesCells(site, s) == nil:
			take = append(take, site)
		}
	}
	return take, leave, nil
}

// stuck returns an error when one of the site's cells is on its way to a site that does not open it: one that is none of those.
func (p *cellsPart) stuck(opens []string) error {
	for _, cell := range p.of(p.n.config.Site) {
		if cell.Sealed && !slices.Contains(opens, cell.Next.Region) {
			return fmt.Errorf("%w: cell %d is on its way to %s, which is not heard, or takes no writes: ask again when it does; if it is gone for good, take what it was to have (sites promote --from %s)",
				eventstore.ErrUnavailable, cell.Number, cell.Next, cell.Next.Region)
		}
	}
	return nil
}

package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Found puts on record that the system begins although some of its sites are gone, because an operator says so, who knows that
// they do not run. They are founders all the same, so that who may write a cell that nobody has moved is read as it was before; their
// cells can be taken from then on. All others must have said the same, and the first of them by name is asked. An error matches
// eventstore.ErrInvalid where this is not for this site to do, and eventstore.ErrUnavailable where others have to be heard first.
func (r *Registrar) Found(ctx context.Context, without []string, reason string) (Roster, error) {
	if reason == "" {
		return Roster{}, fmt.Errorf("%w: say why the sites are thought to be gone", eventstore.ErrInvalid)
	}
	r.mu.Lock()
	a := r.accord()
	r.mu.Unlock()
	founds, after, err := a.without(without)
	if err != nil {
		return Roster{}, err
	}
	held, err := r.holds(ctx, after)
	if err != nil {
		return Roster{}, err
	}
	if !held {
		return Roster{}, fmt.Errorf("%w: what the other sites have written is not all here yet; ask again", eventstore.ErrUnavailable)
	}
	founds.Cluster, founds.Reason = r.o.NewID(), reason
	if err := r.put(ctx, RosterFounded, founds); err != nil && !errors.Is(err, eventstore.ErrConflict) {
		return Roster{}, err
	}
	now := r.Roster()
	if now.Cluster != founds.Cluster {
		return Roster{}, fmt.Errorf("%w: the system was founded meanwhile, as %s", eventstore.ErrInvalid, now.Cluster)
	}
	return now, nil
}

// without returns what is put on record when the system begins although some sites are gone, and what has to be held before.
func (a *accord) without(gone []string) (*agreed, []eventstore.Dot, error) {
	if a.roster.Epoch > 0 {
		return nil, nil, fmt.Errorf("%w: the system is founded already, as %s; of a site that is gone take the cells (sites promote), then have it leave (sites leave)",
			eventstore.ErrInvalid, a.roster.Cluster)
	}
	founders := slices.Sorted(slices.Values(append(slices.Clone(a.own.Founders), a.unnamed()...)))
	if len(gone) == 0 {
		return nil, nil, fmt.Errorf("%w: name the sites that are gone", eventstore.ErrInvalid)
	}
	for _, site := range gone {
		switch {
		case site == a.site || !slices.Contains(founders, site):
			return nil, nil, fmt.Errorf("%w: site %q is none of the others that the system begins with: %s", eventstore.ErrInvalid, site, strings.Join(founders, ", "))
		case a.fresh[site]:
			return nil, nil, fmt.Errorf("%w: site %s is heard: it is not gone", eventstore.ErrInvalid, site)
		}
	}
	if missing := only(append(a.missing(), a.unnamed()...), gone); len(missing) > 0 {
		return nil, nil, fmt.Errorf("%w: not heard since this site has started, or of another mind: %s; start all that are there with the same sites and the same --homed, and name all that are gone",
			eventstore.ErrUnavailable, strings.Join(missing, ", "))
	}
	present := only(founders, gone)
	if present[0] != a.site {
		return nil, nil, fmt.Errorf("%w: it is for site %s to found the system, the first of those that are there: ask it", eventstore.ErrInvalid, present[0])
	}
	founds := &agreed{Sites: founders, Homed: slices.Clone(a.own.Homed), Epoch: 1, Without: slices.Sorted(slices.Values(gone))}
	var after []eventstore.Dot
	for _, site := range present[1:] {
		after = append(after, a.said[site].Since)
	}
	return founds, after, nil
}

package pebblestore

import (
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// places finds the lsns of events. Those that are found are candidates: whoever reads the events checks them.
type places interface {
	// floor returns the last place at or before an lsn, ceil the first at or after one; 0 when there is none.
	floor(lsn uint64) (uint64, error)
	ceil(lsn uint64) (uint64, error)
	close()
}

// anyOf finds what one of its parts finds. REQUIRES: it has parts.
type anyOf []places

func (a anyOf) floor(lsn uint64) (last uint64, err error) {
	for _, p := range a {
		at, err := p.floor(lsn)
		if err != nil {
			return 0, err
		}
		last = max(last, at)
	}
	return last, nil
}

func (a anyOf) ceil(lsn uint64) (first uint64, err error) {
	for _, p := range a {
		at, err := p.ceil(lsn)
		if err != nil {
			return 0, err
		}
		if at > 0 && (first == 0 || at < first) {
			first = at
		}
	}
	return first, nil
}

func (a anyOf) close() {
	for _, p := range a {
		p.close()
	}
}

// allOf finds what all of its parts find: each in turn moves on to where the others are, until they meet. REQUIRES: it
// has parts.
type allOf []places

func (a allOf) floor(lsn uint64) (uint64, error) { return a.meet(lsn, places.floor) }
func (a allOf) ceil(lsn uint64) (uint64, error)  { return a.meet(lsn, places.ceil) }

func (a allOf) meet(lsn uint64, move func(places, uint64) (uint64, error)) (uint64, error) {
	for agreed := 0; agreed < len(a); {
		for _, p := range a {
			at, err := move(p, lsn)
			if err != nil || at == 0 {
				return 0, err
			}
			if at != lsn {
				agreed = 0
			}
			lsn = at
			if agreed++; agreed >= len(a) {
				break
			}
		}
	}
	return lsn, nil
}

func (a allOf) close() {
	for _, p := range a {
		p.close()
	}
}

// join returns what finds what all parts find.
func join(parts []places) places {
	if len(parts) == 1 {
		return parts[0]
	}
	return allOf(parts)
}

// placesOf returns what finds the terms of a kind: those of one of the texts.
func (s *Store) placesOf(kind termKind, tenant string, texts []string) places {
	parts := make(anyOf, len(texts))
	for i, text := range texts {
		parts[i] = newTermCursor(s, term{kind, tenant, text})
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// itemPlaces returns what finds a query item's events of a tenant.
func (s *Store) itemPlaces(tenant string, item *eventstore.QueryItem) places {
	var parts []places
	for _, tag := range item.Tags {
		parts = append(parts, newTermCursor(s, term{tagTerm, tenant, tag}))
	}
	if len(item.Types) > 0 {
		parts = append(parts, s.placesOf(typeTerm, tenant, item.Types))
	}
	return join(parts)
}

// queryPlaces returns what finds a query's events of a tenant. REQUIRES: the query is not empty.
func (s *Store) queryPlaces(tenant string, q eventstore.Query) places {
	parts := make(anyOf, len(q))
	for i := range q {
		parts[i] = s.itemPlaces(tenant, &q[i])
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// filterPlaces returns what finds a filter's events; nil when the filter names nothing that the index knows.
func (s *Store) filterPlaces(f *eventstore.Filter) (places, error) {
	if len(f.Categories) == 0 && len(f.Types) == 0 && len(f.Query) == 0 {
		return nil, nil
	}
	tenants := []string{f.Tenant}
	if f.Tenant == "" {
		var err error
		if tenants, err = s.tenants(); err != nil || len(tenants) == 0 || len(tenants) > maxFilterTenants {
			return nil, err
		}
	}
	all := make(anyOf, len(tenants))
	for i, tenant := range tenants {
		var parts []places
		if len(f.Query) > 0 {
			parts = append(parts, s.queryPlaces(tenant, f.Query))
		}
		if len(f.Types) > 0 {
			parts = append(parts, s.placesOf(typeTerm, tenant, f.Types))
		}
		if len(f.Categories) > 0 {
			parts = append(parts, s.placesOf(categoryTerm, tenant, f.Categories))
		}
		all[i] = join(parts)
	}
	return all, nil
}

// maxFilterTenants is for how many tenants a filter that names none is looked up in the index. With more, the log is
// read through.
const maxFilterTenants = 64

// tenants returns the tenants that have events.
func (s *Store) tenants() ([]string, error) {
	recent := s.recent.tenants() // before the index, since entries move from there to it
	indexed, err := s.index.tenants()
	if err != nil {
		return nil, err
	}
	all := slices.Concat(indexed, recent)
	slices.Sort(all)
	return slices.Compact(all), nil
}

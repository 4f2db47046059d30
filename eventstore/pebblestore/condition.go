package pebblestore

import "github.com/tributary-es/tributary/eventstore"

// checkCondition returns the place of the last durable event that stands against the request's condition, 0 when there is
// none. What is accepted but not durable yet is the sequencer's to judge.
func (s *Store) checkCondition(p *pending) (found uint64, err error) {
	c := p.request.Condition
	// What readers are told is durable is in recent, a moment before it is in s.durable.
	if err := c.After.Check(s.position(s.recent.state().lsn)); err != nil {
		return 0, err
	}
	for i := range c.Query {
		at, err := s.lastOfItem(p.request.Tenant, &c.Query[i], c.After.LSN)
		if err != nil {
			return 0, err
		}
		found = max(found, at)
	}
	return found, nil
}

// lastOfItem returns the place of the last event after an lsn that a query item matches, 0 when there is none.
//
// Most often the last places of the terms tell: an event that carries all tags stands at none of them later than at the
// earliest of their last places.
func (s *Store) lastOfItem(tenant string, item *eventstore.QueryItem, after uint64) (uint64, error) {
	last := ^uint64(0)
	for _, tag := range item.Tags {
		at, err := s.lastOfTerm(term{tagTerm, tenant, tag})
		if err != nil || at <= after {
			return 0, err
		}
		last = min(last, at)
	}
	if len(item.Types) > 0 {
		ofTypes := uint64(0)
		for _, name := range item.Types {
			at, err := s.lastOfTerm(term{typeTerm, tenant, name})
			if err != nil {
				return 0, err
			}
			ofTypes = max(ofTypes, at)
		}
		if ofTypes <= after {
			return 0, nil
		}
		last = min(last, ofTypes)
	}
	if len(item.Tags) == 0 || len(item.Tags) == 1 && len(item.Types) == 0 {
		return last, nil
	}
	events := s.itemPlaces(tenant, item)
	if err := s.index.hold(); err != nil {
		return 0, err
	}
	defer s.index.letGo()
	defer events.close()
	at, err := events.floor(last)
	if err != nil || at <= after {
		return 0, err
	}
	return at, nil
}

// lastOfTerm looks in memory first, since entries move from there to the index.
func (s *Store) lastOfTerm(of term) (uint64, error) {
	lsn, known, turns := s.recent.termLast(of)
	if known {
		return lsn, nil
	}
	lsn, err := s.index.termLast(of.digest())
	if err == nil && of.kind == tagTerm {
		s.recent.rememberTerm(of, lsn, turns)
	}
	return lsn, err
}

// conditionConflict returns what a request is told whose condition met the event at an lsn.
func (s *Store) conditionConflict(p *pending, lsn uint64) *eventstore.ConditionConflict {
	return &eventstore.ConditionConflict{Condition: *p.request.Condition, Found: s.position(lsn)}
}

// acceptedTerms is what the sequencer knows of the types and tags of the events it accepted lately.
type acceptedTerms struct {
	last   map[term]uint64
	tagged []acceptedEvent // those with tags, in order

	// The type of the last event, and where it was, are kept at hand and not in last: most events are of the same.
	kind    term
	kindLSN uint64
}

// lastOf returns the last place of a term, 0 when there is none.
func (a *acceptedTerms) lastOf(of term) uint64 {
	if of == a.kind {
		return a.kindLSN
	}
	return a.last[of]
}

func (a *acceptedTerms) setKind(of term, lsn uint64) {
	if of != a.kind {
		if a.kindLSN > 0 {
			a.last[a.kind] = a.kindLSN
		}
		a.kind = of
	}
	a.kindLSN = lsn
}

type acceptedEvent struct {
	lsn               uint64
	tenant, eventType string
	tags              []string
}

func (a *acceptedTerms) clear() {
	clear(a.last)
	clear(a.tagged)
	*a = acceptedTerms{last: a.last, tagged: a.tagged[:0]}
}

// add takes a batch that was accepted.
func (a *acceptedTerms) add(batch []eventstore.Recorded) {
	for i := range batch {
		e := &batch[i]
		if i+1 == len(batch) || batch[i+1].Type != e.Type {
			a.setKind(term{typeTerm, e.Stream.Tenant, e.Type}, e.Position.LSN)
		}
		if len(e.Tags) == 0 {
			continue
		}
		for _, tag := range e.Tags {
			a.last[term{tagTerm, e.Stream.Tenant, tag}] = e.Position.LSN
		}
		a.tagged = append(a.tagged, acceptedEvent{e.Position.LSN, e.Stream.Tenant, e.Type, e.Tags})
	}
}

// lastOf returns the place of the last accepted event after an lsn that the query matches, 0 when there is none.
func (a *accepted) lastOf(tenant string, q eventstore.Query, after uint64) (found uint64) {
	for i := range q {
		for _, g := range [...]*acceptedGeneration{&a.young, &a.old} {
			if at := g.terms.lastOfItem(tenant, &q[i], max(after, found)); at > 0 {
				found = at
				break
			}
		}
	}
	return found
}

func (a *acceptedTerms) lastOfItem(tenant string, item *eventstore.QueryItem, after uint64) uint64 {
	for _, tag := range item.Tags {
		if a.lastOf(term{tagTerm, tenant, tag}) <= after {
			return 0
		}
	}
	ofTypes := uint64(0)
	for _, name := range item.Types {
		ofTypes = max(ofTypes, a.lastOf(term{typeTerm, tenant, name}))
	}
	if len(item.Tags) == 0 {
		if ofTypes <= after {
			return 0
		}
		return ofTypes
	}
	if len(item.Types) > 0 && ofTypes <= after {
		return 0
	}
	// All have been there; was it one event that had all of them?
	for i := len(a.tagged) - 1; i >= 0 && a.tagged[i].lsn > after; i-- {
		e := &a.tagged[i]
		if e.tenant == tenant && item.Matches(e.eventType, e.tags) {
			return e.lsn
		}
	}
	return 0
}

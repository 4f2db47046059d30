package commandtest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// sites are those that a scenario's events are born at. Their clocks agree: the order of events is that of the scenario.
type sites struct {
	here string
	// common is what all hold, and apart, unless it is nil, what each holds since they are apart.
	common eventstore.Vector
	apart  map[string]eventstore.Vector
}

// held returns what the site holds whose turn it is.
func (s *sites) held() eventstore.Vector {
	if own, ok := s.apart[s.here]; ok {
		return own
	}
	return s.common
}

// born completes an event as its site records it, the nth of the scenario.
func (s *sites) born(r *eventstore.Recorded, n uint64) {
	held := s.held()
	r.Dot = eventstore.Dot{Log: eventstore.LogID{Site: s.here, Incarnation: 1}}
	r.Dot.Seq = held.At(r.Dot.Log) + 1
	r.Batch = eventstore.Batch{FirstSeq: r.Dot.Seq, Count: 1}
	r.HLC = hlc.Timestamp(n)
	r.Dep = held
	r.Version = 1
	for _, d := range held {
		r.Version += d.Seq
	}
	held = held.With(r.Dot)
	if s.apart == nil {
		s.common = held
	} else {
		s.apart[s.here] = held
	}
}

// At says at which site the events that are given next are born, and commands decided. Sites know of each other's events
// unless they are Apart. It comes before any event, and is for aggregates.
func (s *Scenario[S, C, E]) At(site string) *Scenario[S, C, E] {
	s.t.Helper()
	if s.subject.judge == nil {
		s.t.Fatalf("At is for aggregates: what deciders decide on is one log, in the order in which it took its events in")
	}
	if err := eventstore.ValidateSite(site); err != nil {
		s.t.Fatalf("At: %v", err)
	}
	if s.sites == nil {
		if len(s.history) > 0 {
			s.t.Fatalf("At comes after %d events that have no site: begin the scenario with it", len(s.history))
		}
		s.sites = &sites{}
	}
	s.sites.here = site
	return s
}

// Apart cuts the sites off from each other: until they are Together again, none knows what is decided at another.
func (s *Scenario[S, C, E]) Apart() *Scenario[S, C, E] {
	s.t.Helper()
	if s.sites == nil {
		s.t.Fatalf("Apart: the scenario has no sites, name one with At first")
	}
	if s.sites.apart == nil {
		s.sites.apart = map[string]eventstore.Vector{}
	}
	return s
}

// Together has every site take in what the others have.
func (s *Scenario[S, C, E]) Together() *Scenario[S, C, E] {
	s.t.Helper()
	if s.sites == nil {
		s.t.Fatalf("Together: the scenario has no sites, name one with At first")
	}
	for _, held := range s.sites.apart {
		for _, d := range held {
			s.sites.common = s.sites.common.With(d)
		}
	}
	s.sites.apart = nil
	s.fold(nil)
	return s
}

// Void checks which of the events do not count, as the present site sees it: these, in the order of the scenario, and no others.
func (s *Scenario[S, C, E]) Void(want ...E) *Scenario[S, C, E] {
	s.t.Helper()
	if s.sites == nil {
		s.t.Fatalf("Void: the scenario has no sites, name one with At first")
	}
	_, judgement := s.judged()
	var got []E
	var reasons []string
	for _, v := range judgement.Void {
		for i := range s.history {
			if s.history[i].Dot == v.Event {
				got = append(got, s.decode("void event", &s.history[i]))
				reasons = append(reasons, v.Reason)
			}
		}
	}
	if diff := cmp.Diff(want, got, s.compare); diff != "" {
		s.t.Fatalf("void are %d events, for %q, not those that are wanted (-want +got):\n%s", len(got), reasons, diff)
	}
	return s
}

// Outcomes checks what came of the conflicts, as the present site sees it, in the order of the events that were in conflict.
func (s *Scenario[S, C, E]) Outcomes(want ...commands.Verdict) *Scenario[S, C, E] {
	s.t.Helper()
	if s.sites == nil {
		s.t.Fatalf("Outcomes: the scenario has no sites, name one with At first")
	}
	_, judgement := s.judged()
	var got []commands.Verdict
	for _, o := range judgement.Outcomes {
		got = append(got, o.Verdict)
	}
	if diff := cmp.Diff(want, got, s.compare); diff != "" {
		s.t.Fatalf("the conflicts came out not as wanted (-want +got):\n%s\nin full: %+v", diff, judgement.Outcomes)
	}
	return s
}

// judged folds what the present site holds, and turns the state to it.
func (s *Scenario[S, C, E]) judged() (state S, judgement commands.Judgement) {
	s.t.Helper()
	held := s.sites.held()
	var events []eventstore.Recorded
	for _, r := range s.history {
		if r.Dot.Seq <= held.At(r.Dot.Log) {
			events = append(events, r)
		}
	}
	var err error
	s.guard("folding the events of several sites", func() { state, judgement, err = s.subject.judge(events) })
	if err != nil {
		s.t.Fatalf("the events of several sites cannot be folded: %v", err)
	}
	return s.subject.seenFrom(state, s.sites.here), judgement
}

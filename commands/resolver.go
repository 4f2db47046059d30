package commands

import "github.com/tributary-es/tributary/eventstore"

// Resolver declares what an aggregate type does about events of one instance that several sites decided at once, neither
// with the knowledge of the other. It is one of Home, CRDT, LastWriter, Domain, Escrow and Manual.
//
// Nothing is ever appended to resolve a conflict. A stream is folded in canonical order, which is the same at every site
// (eventstore.Recorded.CompareCanonical), and the resolver says how; sites that hold the same events come to the same state.
// An event that does not count stays in the stream: it is void, with a reason (Bus.Judge). An event that was decided with the
// knowledge of all that stand before it counts, unless another branch has a higher epoch or was picked by a person.
//
// Where one site alone writes a stream, all resolvers are alike.
type Resolver[S, E any] interface{ rules() rules[S, E] }

// ResolverKind names a resolver, as it is written in records of conflicts and compared between sites.
type ResolverKind string

// The kinds of resolvers.
const (
	ByHome       ResolverKind = "home"
	ByCRDT       ResolverKind = "crdt"
	ByLastWriter ResolverKind = "lww"
	ByDomain     ResolverKind = "domain"
	ByEscrow     ResolverKind = "escrow"
	ByManual     ResolverKind = "manual"
)

// Home is for what one site at a time may write: its home. It is what an aggregate has that declares nothing. When two sites
// have taken themselves for the home all the same, the branch of the higher epoch counts, and of equal ones the one that
// stands first; events of the other branch are void.
type Home[S, E any] struct{}

// CRDT is for events that commute: whatever the order in which Evolve is given those that were decided at once, the state is
// the same. All count. Evolve accepts each of them in every state. So does a command that was done at two sites (DuplicateCommand in
// package replication), unless its events say that they are one: give what they add an id that is made of Meta.ID, and have what was
// taken out stay out, as a cart of the shop does.
type CRDT[S, E any] struct{}

// LastWriter is for events that set fields: of two that set the same one at once, the later one in canonical order does.
// All count, and what was overwritten unseen is on record, field by field. Evolve accepts each event in every state, and
// changes the fields that Fields names and no others.
type LastWriter[S, E any] struct {
	// Fields names what an event sets.
	Fields func(E) []string
}

// Domain is for events of which some cannot hold beside others: shipped, and cancelled at another site meanwhile.
type Domain[S, E any] struct {
	// Holds says whether an event still holds where it now stands, after others that its decider did not know: an empty
	// reason, or why it does not. It is asked for such events alone, is pure, and changes neither. An event that does not hold
	// is void: Evolve is not given it.
	Holds func(S, E) (reason string)
	// Begins, when set, says of an event that it begins what the others go on with. Where two sites have begun one instance
	// at once, the second beginning is void by Holds, and so is what was decided with the knowledge of it alone: what was
	// meant for the one does not move the other. It goes with no Snapshots.
	Begins func(E) bool
}

// Escrow is for quantities that must not be overdrawn: each site has rights to a part of them, spends no others, and so needs
// to ask nobody. All events count. Package escrow has the books for it.
type Escrow[S, E any] struct {
	// At returns the state as a site sees it: before Decide that is the site that decides, whose rights it spends, before
	// Evolve the one that the event was born at, whose rights it moves. It is pure in its result, but owns the state as
	// Evolve does.
	At func(s S, site string) S
	// Review, when set, is asked of an event that was decided without the knowledge of others before it: an empty text, or what
	// a person should look at. The event counts all the same.
	Review func(S, E) (reason string)
}

// Manual is for what a person has to settle. A stream whose events are in conflict stands as its first branch left it, and
// refuses commands with a *ConflictedError, until a Settle picks a branch.
type Manual[S, E any] struct{}

// rules is a resolver as the bus works with it. What a resolver does not say is nil.
type rules[S, E any] struct {
	kind   ResolverKind
	fields func(E) []string
	holds  func(S, E) string
	begins func(E) bool
	at     func(S, string) S
	review func(S, E) string
}

func (Home[S, E]) rules() rules[S, E] { return rules[S, E]{kind: ByHome} }
func (CRDT[S, E]) rules() rules[S, E] { return rules[S, E]{kind: ByCRDT} }
func (r LastWriter[S, E]) rules() rules[S, E] {
	return rules[S, E]{kind: ByLastWriter, fields: r.Fields}
}

func (r Domain[S, E]) rules() rules[S, E] {
	return rules[S, E]{kind: ByDomain, holds: r.Holds, begins: r.Begins}
}

func (r Escrow[S, E]) rules() rules[S, E] {
	return rules[S, E]{kind: ByEscrow, at: r.At, review: r.Review}
}
func (Manual[S, E]) rules() rules[S, E] { return rules[S, E]{kind: ByManual} }

// rules returns those of the aggregate's resolver.
func (a *Aggregate[S, C, E]) rules() rules[S, E] {
	if a.Resolver == nil {
		return Home[S, E]{}.rules()
	}
	return a.Resolver.rules()
}

// SeenFrom returns the state as a site sees it, where the resolver makes a difference (Escrow); else the state as it is. It
// owns the state as Evolve does.
func (a Aggregate[S, C, E]) SeenFrom(s S, site string) S {
	if at := a.rules().at; at != nil {
		return at(s, site)
	}
	return s
}

// missing names what a resolver needs and was not given.
func (r rules[S, E]) missing() string {
	switch {
	case r.kind == ByLastWriter && r.fields == nil:
		return "LastWriter needs Fields"
	case r.kind == ByDomain && r.holds == nil:
		return "Domain needs Holds"
	case r.kind == ByEscrow && r.at == nil:
		return "Escrow needs At"
	}
	return ""
}

// Branchwise reports whether the resolver keeps one branch of a stream and leaves the others: an event then counts or not by
// what the whole stream is, events behind it included.
func (k ResolverKind) Branchwise() bool { return k == ByHome || k == ByManual }

// knowsAll reports whether an event was decided with the knowledge of the events before it in its stream: count in number,
// covered by a vector.
func knowsAll(r *eventstore.Recorded, folded eventstore.Vector, count uint64) bool {
	if r.Version == count+1 && len(r.Context) == 0 && len(r.Dep) == 0 {
		return true // It says nothing else, as those do that no bus had recorded before there were several sites.
	}
	for _, d := range folded {
		if d.Log != r.Dot.Log && !r.Knew(&eventstore.Recorded{Dot: d}) {
			return false
		}
	}
	return true
}

package commands

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Register adds an aggregate to the bus, with a sample of every command that it decides (only the samples' types count).
// Where C is a struct and not an interface, the samples may be left out. A command type or category that is registered
// already is an error, and so is an incomplete aggregate; in both cases nothing is registered.
//
// Register everything before the first Dispatch; it is not safe to do both at once.
func Register[S, C, E any](b *Bus, a Aggregate[S, C, E], samples ...C) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("register aggregate %q: %w", a.Category, err)
	}
	if err := b.add(registered{category: a.Category, aggregate: &typed[S, C, E]{a}}, commandTypes(samples)); err != nil {
		return fmt.Errorf("register aggregate %q: %w", a.Category, err)
	}
	if err := b.declare(a.Codec); err != nil {
		return fmt.Errorf("register aggregate %q: %w", a.Category, err)
	}
	know(b, a.Codec)
	for _, name := range a.Codec.Types() {
		b.writers[name] = append(b.writers[name], a.Category)
	}
	return nil
}

// commandTypes returns the types of sample commands. A command type that is no interface is its own sample.
func commandTypes[C any](samples []C) map[reflect.Type]bool {
	types := make(map[reflect.Type]bool, len(samples))
	for _, s := range samples {
		types[reflect.TypeOf(s)] = true
	}
	if t := reflect.TypeFor[C](); len(samples) == 0 && t.Kind() != reflect.Interface {
		types[t] = true
	}
	return types
}

// check says what is missing from an aggregate.
func (a *Aggregate[S, C, E]) check() error {
	var faults []error
	if err := (eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: a.Category, ID: "x"}).Validate(); err != nil {
		faults = append(faults, err)
	}
	for name, missing := range map[string]bool{
		"ID": a.ID == nil, "Decide": a.Decide == nil, "Evolve": a.Evolve == nil, "Codec": a.Codec == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("%s is nil", name))
		}
	}
	if missing := a.rules().missing(); missing != "" {
		faults = append(faults, errors.New(missing))
	}
	if s := a.Snapshots; s != nil {
		if s.Version == 0 || s.Encode == nil || s.Decode == nil || s.Every < 0 {
			faults = append(faults, errors.New("Snapshots need a Version from 1, Encode and Decode, and an Every from 0"))
		}
		if name := personalEvent(a.Codec); name != "" {
			faults = append(faults, fmt.Errorf("event %s has personal fields, which must not be in snapshots", name))
		}
		if a.rules().begins != nil {
			faults = append(faults, errors.New("Snapshots do not know which event of several began an instance (Domain.Begins)"))
		}
	}
	return errors.Join(append(faults, declarationOf(a.Codec))...)
}

// declarationOf returns what is wrong with a codec's declaration, where the codec can tell.
func declarationOf(codec any) error {
	if c, ok := codec.(interface{ declaration() error }); ok {
		return c.declaration()
	}
	return nil
}

// aggregate is an Aggregate with its type parameters erased.
type aggregate interface {
	// streamID returns the id of the command's instance.
	streamID(cmd any) string
	validate(cmd any) error
	newInstance() instance
	// snapshots returns the version of the fold and how many events lie between two snapshots; not ok where none are taken.
	snapshots() (fold uint32, every int, ok bool)
	// resolver names the aggregate's resolver, and judge says what it makes of a stream; judging begins with one, as judge.fold.
	resolver() ResolverKind
	// atEverySite says why the streams are written at every site; empty: they may be written at one.
	atEverySite() string
	judge(events []eventstore.Recorded) (Judgement, error)
	judging() func(*eventstore.Recorded, *Outcome) (void string, err error)
}

// typed erases the type parameters of an aggregate, once.
type typed[S, C, E any] struct{ Aggregate[S, C, E] }

func (t *typed[S, C, E]) resolver() ResolverKind { return t.rules().kind }

func (t *typed[S, C, E]) atEverySite() string {
	if t.AtEverySite == "" && t.resolver() == ByEscrow {
		return "each site uses what it has the rights to"
	}
	return t.AtEverySite
}

func (t *typed[S, C, E]) streamID(cmd any) string { return t.ID(cmd.(C)) }

func (t *typed[S, C, E]) validate(cmd any) error {
	if t.Validate == nil {
		return nil
	}
	return t.Validate(cmd.(C))
}

func (t *typed[S, C, E]) snapshots() (fold uint32, every int, ok bool) {
	if t.Snapshots == nil {
		return 0, 0, false
	}
	return t.Snapshots.Version, cmp.Or(t.Snapshots.Every, DefaultSnapshotEvery), true
}

func (t *typed[S, C, E]) newInstance() instance {
	return newInstance(&t.Aggregate)
}

func newInstance[S, C, E any](a *Aggregate[S, C, E]) *typedInstance[S, C, E] {
	return &typedInstance[S, C, E]{aggregate: a, rules: a.rules(), state: a.zero()}
}

func (a *Aggregate[S, C, E]) zero() (s S) {
	if a.Zero != nil {
		return a.Zero()
	}
	return s
}

// instance is the state of one aggregate instance. It is used by one goroutine at a time.
type instance interface {
	// decide returns the events that a command leads to at a site, encoded. The state stays as it is.
	decide(cmd any, site string) ([]eventstore.Event, error)
	// fold brings the state forward by one event, unless it does not hold, for the reason that is returned then. Knowing says
	// that the event was decided with the knowledge of all that are folded. After an error the instance is of no use.
	fold(r *eventstore.Recorded, knowing bool) (void string, err error)
	// resolver names the resolver of the aggregate.
	resolver() ResolverKind
	// size estimates the bytes that the state holds.
	size() int
	// snapshot encodes the state, and restore replaces it by one that was encoded. REQUIRES: the aggregate has snapshots.
	snapshot() ([]byte, error)
	restore(encoded []byte) error
}

type typedInstance[S, C, E any] struct {
	aggregate *Aggregate[S, C, E]
	rules     rules[S, E]
	state     S
	beginnings
}

// beginnings are the events that began an instance, where the resolver tells them: the one that counts, and void ones. Of one
// that this process has just decided the dot is not known.
type beginnings struct {
	counts  eventstore.Dot
	unnamed bool
	void    []eventstore.Dot
}

// ofVoid returns the void beginning that an event goes on with, not knowing the one that counts; not ok when there is none.
func (b *beginnings) ofVoid(r *eventstore.Recorded) (begun eventstore.Dot, ok bool) {
	for _, begun := range b.void {
		if r.Knew(&eventstore.Recorded{Dot: begun}) && !r.Knew(&eventstore.Recorded{Dot: b.counts}) {
			return begun, true
		}
	}
	return begun, false
}

func (i *typedInstance[S, C, E]) resolver() ResolverKind { return i.rules.kind }

func (i *typedInstance[S, C, E]) decide(cmd any, site string) ([]eventstore.Event, error) {
	i.stand(site)
	decided, err := i.aggregate.Decide(i.state, cmd.(C))
	if err != nil {
		return nil, err
	}
	events := make([]eventstore.Event, len(decided))
	for n, e := range decided {
		if events[n], err = encode(i.aggregate.Codec, i.aggregate.Tags, e); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// encode returns a decided event as folding sees it, which is before the store fills its defaults.
func encode[E any](codec Codec[E], tags func(E) []string, e E) (eventstore.Event, error) {
	encoded, err := codec.Encode(e)
	if err != nil {
		return eventstore.Event{}, err
	}
	encoded.SchemaVersion = max(encoded.SchemaVersion, 1)
	if encoded.Encoding == 0 {
		encoded.Encoding = eventstore.Protobuf
	}
	if tags != nil {
		encoded.Tags = slices.Compact(slices.Sorted(slices.Values(tags(e)))) // as queries match them
	}
	return encoded, nil
}

// stand has the state look at itself from a site, as SeenFrom does.
func (i *typedInstance[S, C, E]) stand(site string) {
	if i.rules.at != nil {
		i.state = i.rules.at(i.state, site)
	}
}

func (i *typedInstance[S, C, E]) fold(r *eventstore.Recorded, knowing bool) (void string, err error) {
	if settles(&r.Event) {
		return "", nil
	}
	e, err := i.aggregate.Codec.Decode(r)
	if err != nil {
		return "", err
	}
	begins := i.rules.begins != nil && i.rules.begins(e)
	if !knowing && i.rules.holds != nil {
		if i.unnamed {
			return "", errRewound // read from the log it has a name
		}
		if begun, ok := i.ofVoid(r); ok && !begins {
			return fmt.Sprintf("it goes on with what %s began, which is void", begun), nil
		}
		if reason := i.rules.holds(i.state, e); reason != "" {
			if begins {
				i.void = append(i.void, r.Dot)
			}
			return reason, nil
		}
	}
	if begins {
		i.counts, i.unnamed = r.Dot, r.Dot.Seq == 0
	}
	i.stand(r.Dot.Log.Site)
	i.state = i.aggregate.Evolve(i.state, e)
	return "", nil
}

func (i *typedInstance[S, C, E]) size() int { return sizeOf(i.state) }

func (i *typedInstance[S, C, E]) snapshot() ([]byte, error) {
	return i.aggregate.Snapshots.Encode(i.state)
}

func (i *typedInstance[S, C, E]) restore(encoded []byte) (err error) {
	i.state, err = i.aggregate.Snapshots.Decode(encoded)
	return err
}

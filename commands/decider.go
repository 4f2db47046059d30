package commands

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Decider declares how commands of type C are decided on the events that a query matches, whatever streams they stand in:
// a rule that no stream holds alone, such as a limit over all orders of a customer. C and E are usually sealed interfaces,
// or E is proto.Message where the events are those of several aggregates.
//
// The bus folds the events that the query matches and appends what is decided under the condition that no event more has
// come to match it: of decisions that exclude one another one is made first, and the others see it. A command that decides
// no events guards what other commands of its message decide.
//
// Where other sites write the same streams, only what counts is folded: without what their resolvers have void, see Bus.Judge, and in
// canonical order, so that sites which hold the same events come to the same state. That reads all of it for each command.
//
// Commands of a message are decided in order, and those of a decider see the events of all before them, as if these were
// in the log already. Where the rule can be put in front of what it guards, it should be: a state that has seen events of a
// message which is then refused has to be folded again.
type Decider[S, C, E any] struct {
	// Name tells the decider from others in errors, such as "voucher".
	Name string
	// Query returns what a command is decided on. It is of the message's tenant, and never empty. Where others append to the
	// log too, it names types: an event that it matches and no codec knows is an error of every command.
	Query func(C) eventstore.Query
	// Widen, when set, returns what a command has to be decided on beside its Query, given the state that the Query leads
	// to; an empty query means nothing more. It keeps a rule that seldom applies from reading what it would apply to. Only
	// Decide is then given the state over both.
	Widen func(S, C) eventstore.Query
	// Zero returns the state without events; nil means the zero value of S.
	Zero func() S
	// Validate, Decide and Evolve are those of an Aggregate. Evolve is given every event that the query matches and that counts, in the
	// order of the log, where several sites write in canonical order, with the stream that it stands in, and passes over those that it has no use for.
	Validate func(C) error
	Decide   func(S, C) ([]E, error)
	Evolve   func(S, eventstore.StreamID, E) S
	// Codec encodes the events that are decided. Events of other types are decoded by the codecs of what else is registered
	// at the bus; they must be of type E.
	Codec Codec[E]
	// Stream returns the stream that a decided event goes to; the bus fills in the tenant. What the stream's version is
	// does not matter, unless another command of the message expects one.
	Stream func(C, E) eventstore.StreamID
	// Tags, when set, returns the tags of an event that was decided. Without a tag or type that the query names, the
	// decision does not count in later ones.
	Tags func(E) []string
}

// RegisterDecider adds a decider to the bus, as Register adds an aggregate. It is an error to register a command type or
// the name of a decider twice.
func RegisterDecider[S, C, E any](b *Bus, d Decider[S, C, E], samples ...C) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("register decider %q: %w", d.Name, err)
	}
	types := commandTypes(samples)
	if err := b.add(registered{scopes: &typedDecider[S, C, E]{d}}, types); err != nil {
		return fmt.Errorf("register decider %q: %w", d.Name, err)
	}
	if err := b.declare(d.Codec); err != nil {
		return fmt.Errorf("register decider %q: %w", d.Name, err)
	}
	know(b, d.Codec)
	return nil
}

// check says what is missing from a decider.
func (d *Decider[S, C, E]) check() error {
	var faults []error
	for name, missing := range map[string]bool{
		"Name": d.Name == "", "Query": d.Query == nil, "Decide": d.Decide == nil, "Evolve": d.Evolve == nil,
		"Codec": d.Codec == nil, "Stream": d.Stream == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("%s is missing", name))
		}
	}
	return errors.Join(append(faults, declarationOf(d.Codec))...)
}

// scoper is a decider with its type parameters erased.
type scoper interface {
	name() string
	query(cmd any) eventstore.Query
	validate(cmd any) error
	newFold(decode decodeAny) scopeFold
}

// scopeFold is the state over a query. It is used by one goroutine at a time.
type scopeFold interface {
	// widen returns what else a command is to be decided on.
	widen(cmd any) eventstore.Query
	// decide returns the events that a command leads to, encoded and with the stream that each goes to. The state stays as it
	// is.
	decide(cmd any, tenant string) ([]decision, error)
	// fold brings the state forward by one event. After an error the fold is of no use.
	fold(r *eventstore.Recorded) error
	size() int
}

// decision is an event that was decided, and its stream.
type decision struct {
	stream eventstore.StreamID
	event  eventstore.Event
}

// decodeAny decodes an event of any type that the bus knows.
type decodeAny func(*eventstore.Recorded) (any, error)

type typedDecider[S, C, E any] struct{ Decider[S, C, E] }

func (t *typedDecider[S, C, E]) name() string { return t.Name }

func (t *typedDecider[S, C, E]) query(cmd any) eventstore.Query { return t.Query(cmd.(C)) }

func (t *typedDecider[S, C, E]) validate(cmd any) error {
	if t.Validate == nil {
		return nil
	}
	return t.Validate(cmd.(C))
}

func (t *typedDecider[S, C, E]) newFold(decode decodeAny) scopeFold {
	f := &typedScope[S, C, E]{decider: &t.Decider, decode: decode}
	if t.Zero != nil {
		f.state = t.Zero()
	}
	return f
}

type typedScope[S, C, E any] struct {
	decider *Decider[S, C, E]
	decode  decodeAny
	state   S
}

func (f *typedScope[S, C, E]) widen(cmd any) eventstore.Query {
	if f.decider.Widen == nil {
		return nil
	}
	return f.decider.Widen(f.state, cmd.(C))
}

func (f *typedScope[S, C, E]) decide(cmd any, tenant string) ([]decision, error) {
	c := cmd.(C)
	events, err := f.decider.Decide(f.state, c)
	if err != nil {
		return nil, err
	}
	out := make([]decision, len(events))
	for i, e := range events {
		encoded, err := encode(f.decider.Codec, f.decider.Tags, e)
		if err != nil {
			return nil, err
		}
		stream := f.decider.Stream(c, e)
		stream.Tenant = tenant
		out[i] = decision{stream, encoded}
	}
	return out, nil
}

func (f *typedScope[S, C, E]) fold(r *eventstore.Recorded) error {
	decoded, err := f.decode(r)
	if err != nil {
		return err
	}
	e, ok := decoded.(E)
	if !ok {
		return fmt.Errorf("decode %s: decider %q folds %s, not %T", r.Type, f.decider.Name, reflect.TypeFor[E](), decoded)
	}
	f.state = f.decider.Evolve(f.state, r.Stream, e)
	return nil
}

func (f *typedScope[S, C, E]) size() int { return sizeOf(f.state) }

// both returns the query that matches what one of the two does; items that are in both are in it once.
func both(a, b eventstore.Query) eventstore.Query {
	out := slices.Clip(a)
	for _, item := range b {
		same := func(other eventstore.QueryItem) bool {
			return slices.Equal(other.Types, item.Types) && slices.Equal(other.Tags, item.Tags)
		}
		if !slices.ContainsFunc(a, same) {
			out = append(out, item)
		}
	}
	return out
}

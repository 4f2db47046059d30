package commands

import "github.com/tributary-es/tributary/eventstore"

// Aggregate declares how commands of type C become events of type E, given a state of type S. C and E are usually sealed
// interfaces of the aggregate's package.
type Aggregate[S, C, E any] struct {
	// Category is the category of the aggregate's streams, such as "order".
	Category string
	// ID returns the id of the instance that a command is for; it becomes the stream's id.
	ID func(C) string
	// Zero returns the state of an instance without events; nil means the zero value of S.
	Zero func() S
	// Validate, when set, checks what can be checked of a command alone, and joins all faults with errors.Join. It is
	// called before anything is loaded.
	Validate func(C) error
	// Decide returns the events that the command leads to, or an error: a *Rejection when it is a business no. It is
	// pure: no clock, no randomness, no input but its arguments, and it must not change the state. No events and no
	// error means that there is nothing to do.
	Decide func(S, C) ([]E, error)
	// Evolve returns the state after one more event. It is pure in its result, but it owns s: it may reuse s's memory,
	// and nobody uses s afterwards. It must accept every event that Decide ever returned.
	Evolve func(S, E) S
	// Codec encodes the events.
	Codec Codec[E]
	// Resolver says what becomes of events that several sites decided at once; nil means Home.
	Resolver Resolver[S, E]
	// AtEverySite, when set, says why the streams of the category are written at every site, as in "the stock of a code is sold at
	// each": they cannot be homed then. Those of an Escrow never can.
	AtEverySite string
	// Tags, when set, returns the tags of an event ("key:value"; no personal data).
	Tags func(E) []string
	// Snapshots, when set, says how states are kept on disk, where the bus has a place for them. It is for aggregates whose
	// streams become long, and not for those whose events have personal fields: erasing would not reach what is kept.
	Snapshots *Snapshots[S]
}

// Codec encodes and decodes the events of an aggregate. ProtoCodec and JSONCodec make one.
type Codec[E any] interface {
	// Encode returns the event as the log takes it: type, schema version, encoding, payload.
	Encode(E) (eventstore.Event, error)
	// Decode returns the recorded event as the current program knows it, upcast when it was recorded by an older one. It
	// depends on type, schema version, encoding and payload alone.
	Decode(*eventstore.Recorded) (E, error)
	// Types lists the wire names that Decode knows.
	Types() []string
}

// Meta says who asks, under which key, and what they expect.
type Meta struct {
	// Tenant owns the streams; empty means eventstore.DefaultTenant.
	Tenant string
	// ID is the idempotency key: a command repeated with the same ID returns the original receipt. Empty: not idempotent.
	ID string
	// Hash is a hash of the request as the caller sent it, by which a reused ID is told from a repeated one. Zero: it is
	// computed from the commands.
	Hash eventstore.Hash
	// Expect is what the caller believes of the version of the first command's stream, deciders' commands apart. A conflict with it is returned,
	// not retried.
	Expect eventstore.Expect
	// RestsOn are events without which the commands make no sense, such as the one that a process acts on. The message is
	// refused with CodeVoid when one of them stands in a stream that a command is for, and is void there when the events that
	// are decided would be recorded.
	RestsOn []eventstore.Dot
	// Durability is where the events must be before Dispatch returns.
	Durability eventstore.Durability
	eventstore.Metadata
}

// Message is what passes through the bus: commands that are decided and appended together, and their Meta.
type Message struct {
	Meta
	Commands []any
}

// CodeVoid is the code of the Rejection of a message that rests on an event which is void (Meta.RestsOn).
const CodeVoid = "void"

// Rejection is a business no: the command was understood and refused. It is not retried.
type Rejection struct {
	// Code is a stable, lower-case, dotted name that clients branch on, such as "order.already_shipped".
	Code string
	// Reason says it to a person, with what to do where that helps.
	Reason string
	// Details are the facts of the refusal by name, for programs, such as "limit". Nil when the code says it all.
	Details map[string]string
}

// Reject returns a *Rejection without details.
func Reject(code, reason string) error { return &Rejection{Code: code, Reason: reason} }

// Error returns the code and the reason.
func (r *Rejection) Error() string { return r.Code + ": " + r.Reason }

// Class returns eventstore.Rejected.
func (r *Rejection) Class() eventstore.Class { return eventstore.Rejected }

package saga

import (
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Definition declares a saga whose instances have a state of type S.
type Definition[S any] struct {
	// Name is the category of the instances' streams, such as "checkout", and part of every idempotency key; where several
	// sites write it is followed by a dot and the site. It never changes.
	Name string
	// Triggers are the wire names of the events that start or move an instance.
	Triggers []string
	// Instance returns the id of the instance that a trigger is for; empty when it is for none. The instance belongs to
	// the trigger's tenant. It is pure, and may be called by several goroutines at a time. An id that no stream can have,
	// or a panic, is a bug, and parks the trigger.
	Instance func(*eventstore.Recorded) string
	// Zero returns the state of an instance that nothing has happened to; nil means the zero value of S.
	Zero func() S
	// React returns the state after an input and what is to be done about it. It is pure: no clock but the input's time,
	// no randomness, nothing but its arguments. It owns s as Evolve does. It must give the same actions for the same
	// inputs as long as instances are open that have seen them; a program in which it does not parks those instances.
	// An error is a bug, and parks the instance.
	React func(s S, in Input) (S, []Action, error)
}

// Input is what an instance reacts to: Triggered, Voided, Succeeded, Refused or Fired. All carry the time at which the input was
// first reacted to, in UTC; it is recorded and the same at every later fold.
type Input interface{ input() }

// Triggered: an event happened that the definition names. The event is shared and must not be changed. Each event is an
// input once, in the order of its stream. After the instance is complete, there are no more.
//
// An instance begins with what was born at its site. What another site records goes to an instance that there is already, as
// far as it counts, and as long as what began the instance does.
type Triggered struct {
	Event *eventstore.Recorded
	// Instance names the instance among those of all sites: it is its id, followed by @ and the site where several sites write.
	// What the commands make under a name of their own choice should have this one, since another site may have an instance of
	// the same id.
	Instance string
	At       time.Time
}

// Voided: an event of a trigger's type does not count, which was born at this site, in the stream of one of the instance's
// triggers: another site had written the stream before, and nobody here knew. It is an input once, before what counts in its
// place. It comes after the instance is complete too, which is then open again, unless the reaction completes or ignores it.
type Voided struct {
	Event  *eventstore.Recorded
	Reason string
	At     time.Time
}

// Succeeded: the commands that were sent under Key are in the log.
type Succeeded struct {
	Key     string
	Receipt eventstore.Receipt
	At      time.Time
}

// Refused: the commands that were sent under Key were refused for good; none of them had an effect. Code is the
// rejection's, or one of the Code constants.
type Refused struct {
	Key    string
	Code   string
	Reason string
	At     time.Time
}

// Fired: a timer is due. A timer that was cancelled or set anew does not fire.
type Fired struct {
	Timer string
	At    time.Time
}

func (Triggered) input() {}
func (Voided) input()    {}
func (Succeeded) input() {}
func (Refused) input()   {}
func (Fired) input()     {}

// Codes of Refused for refusals that are not a *commands.Rejection.
const (
	CodeInvalid  = "invalid"   // the commands are wrong in themselves
	CodeConflict = "conflict"  // an expectation did not hold
	CodeTooLarge = "too_large" // the commands or their events are beyond a limit
	CodeNotFound = "not_found" // something that they name does not exist
	CodeNotHome  = "not_home"  // a stream that they are for is written at another site now
)

// Action is what an instance does: Send, SetTimer, CancelTimer, Complete or Ignore.
type Action interface{ action() }

// Send dispatches commands together: all of them take effect, or none. The outcome comes back as Succeeded or Refused.
// The sends of an instance are carried out one after the other, in order.
type Send struct {
	// Key names the send within its instance; it is used once. The idempotency key derives from it.
	Key      string
	Commands []any
	// Topic is what the outbox shows the send as, such as "stock.reserve".
	Topic string
	// Note is what the outbox shows as payload and what the step records: enough to compensate by hand, no personal data.
	Note map[string]string
	// Compensation says that the commands undo what earlier ones did.
	Compensation bool
}

// SetTimer has Fired come back after a while; a timer of that name that is set already is moved.
type SetTimer struct {
	Name  string
	After time.Duration
}

// CancelTimer forgets a timer; it need not be set.
type CancelTimer struct{ Name string }

// Complete ends the instance. Timers are forgotten. Sends that are still under way, those of the same step included, are
// carried out and their outcomes recorded, but React sees no more inputs, apart from Voided.
type Complete struct {
	// Outcome says how it ended, in a word that is recorded: "shipped", "cancelled".
	Outcome string
}

// Ignore, as the only action, says that a trigger, or that one is void, is of no interest: nothing is recorded, and where it
// was the first of its instance there is no instance. The state must be as it was.
type Ignore struct{}

func (Send) action()        {}
func (SetTimer) action()    {}
func (CancelTimer) action() {}
func (Complete) action()    {}
func (Ignore) action()      {}

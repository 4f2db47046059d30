package checkout_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// at is the business time of everything that is placed and received in these tests.
var at = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

func gbp(number string) money.Amount { return money.MustParse(number, "GBP") }

// stage plays the sagas by hand over the real aggregates: events are handed over, messages carried out and answers handed
// back only when a test says so, in any order that a runner could come to.
type stage struct {
	t     failer
	bus   *commands.Bus
	store *memstore.Store
	sagas []*played
	// start is where the log began, before the shop was there.
	start eventstore.Position
	// read is how far the log was looked at for triggers, and waiting what was found and not handed over.
	read    eventstore.Position
	waiting []eventstore.Recorded
	// said is what happened since it was last taken.
	said strings.Builder
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// played is a saga with its state's type erased.
type played struct {
	name     string
	triggers []string
	instance func(*eventstore.Recorded) string
	start    func() func(saga.Input) ([]saga.Action, error)
	open     map[string]*instance
}

// instance is one run of a saga.
type instance struct {
	id      string
	react   func(saga.Input) ([]saga.Action, error)
	inputs  []saga.Input
	sends   []saga.Send // not carried out
	answers []saga.Input
	keys    map[string]bool
	timers  map[string]bool
	outcome string
	err     error
}

func play[S any](d saga.Definition[S]) *played {
	return &played{
		name: d.Name, triggers: d.Triggers, instance: d.Instance, open: map[string]*instance{},
		start: func() func(saga.Input) ([]saga.Action, error) {
			var s S
			if d.Zero != nil {
				s = d.Zero()
			}
			return func(in saga.Input) (actions []saga.Action, err error) {
				s, actions, err = d.React(s, in)
				return actions, err
			}
		},
	}
}

func newStage(t failer, o checkout.Options) *stage {
	s := &stage{t: t, store: memstore.New(memstore.Options{})}
	s.bus = commands.NewBus(s.store, commands.Options{})
	if err := checkout.Register(s.bus); err != nil {
		t.Fatalf("%v", err)
	}
	s.sagas = []*played{play(checkout.Saga(o)), play(checkout.ReturnSaga())}
	log, err := s.store.Log(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	s.start, s.read = log.Durable, log.Durable
	return s
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(&s.said, format+"\n", args...) }

// do gives commands as an operator or a customer would, and returns what they came to.
func (s *stage) do(cmds ...any) error {
	s.t.Helper()
	_, err := s.bus.Dispatch(context.Background(), commands.Meta{}, cmds...)
	var rejection *commands.Rejection
	if err != nil && !errors.As(err, &rejection) {
		s.t.Fatalf("dispatch: %v", err)
	}
	s.look()
	return err
}

// look queues the events of the log that trigger a saga.
func (s *stage) look() {
	s.t.Helper()
	for r, err := range s.store.ReadAll(context.Background(), s.read, eventstore.Filter{}) {
		if err != nil {
			s.t.Fatalf("read: %v", err)
		}
		s.read = r.Position
		s.waiting = append(s.waiting, r)
	}
}

// deliver hands the next event over to the saga that it triggers, and reports whether there was one.
func (s *stage) deliver() bool {
	s.t.Helper()
	for len(s.waiting) > 0 {
		r := s.waiting[0]
		s.waiting = s.waiting[1:]
		for _, p := range s.sagas {
			if slices.Contains(p.triggers, r.Type) {
				s.trigger(p, &r)
				return true
			}
		}
	}
	return false
}

func (s *stage) trigger(p *played, r *eventstore.Recorded) {
	s.t.Helper()
	id := p.instance(r)
	i := p.open[id]
	if i == nil {
		i = &instance{id: id, react: p.start(), keys: map[string]bool{}, timers: map[string]bool{}}
	}
	if i.outcome != "" {
		return
	}
	if s.input(i, fmt.Sprintf("event %s", r.Type), saga.Triggered{Event: r, Instance: id, At: time.Now()}) {
		p.open[id] = i
	}
}

// input has the instance react, notes what it wants, and reports whether the input counts.
func (s *stage) input(i *instance, what string, in saga.Input) bool {
	s.t.Helper()
	if i.err != nil || i.outcome != "" {
		return false
	}
	actions, err := i.react(in)
	if len(actions) == 1 && actions[0] == saga.Action(saga.Ignore{}) {
		s.say("%s %s: ignored", i.id, what)
		return false
	}
	s.say("%s %s", i.id, what)
	i.inputs = append(i.inputs, in)
	if err != nil {
		s.say("  parked: %v", err)
		i.err = err
		return true
	}
	for _, a := range actions {
		s.action(i, a)
	}
	return true
}

func (s *stage) action(i *instance, a saga.Action) {
	s.t.Helper()
	switch a := a.(type) {
	case saga.Send:
		if i.keys[a.Key] {
			s.t.Fatalf("%s: key %s is used twice", i.id, a.Key)
		}
		i.keys[a.Key] = true
		if len(i.sends)+len(i.answers) > 0 {
			s.t.Fatalf("%s: %s is sent while another message is under way", i.id, a.Key)
		}
		i.sends = append(i.sends, a)
		kind := "send"
		if a.Compensation {
			kind = "compensate"
		}
		s.say("  %s %s, topic %s, %v", kind, a.Key, a.Topic, a.Note)
		for _, c := range a.Commands {
			s.say("    %s", spell(c))
		}
	case saga.SetTimer:
		i.timers[a.Name] = true
		s.say("  set timer %s to %s", a.Name, a.After)
	case saga.CancelTimer:
		delete(i.timers, a.Name)
		s.say("  cancel timer %s", a.Name)
	case saga.Complete:
		i.outcome, i.timers = a.Outcome, nil
		s.say("  complete: %s", a.Outcome)
	default:
		s.t.Fatalf("%s: unexpected action %T", i.id, a)
	}
}

// carryOut dispatches the next message of an instance; its answer waits.
func (s *stage) carryOut(p *played, i *instance) bool {
	s.t.Helper()
	if len(i.sends) == 0 {
		return false
	}
	send := i.sends[0]
	i.sends = i.sends[1:]
	meta := commands.Meta{ID: "saga/" + p.name + "/" + i.id + "/" + send.Key}
	receipt, err := s.bus.Dispatch(context.Background(), meta, send.Commands...)
	var rejection *commands.Rejection
	switch {
	case err == nil:
		i.answers = append(i.answers, saga.Succeeded{Key: send.Key, Receipt: receipt, At: time.Now()})
	case errors.As(err, &rejection):
		i.answers = append(i.answers, saga.Refused{Key: send.Key, Code: rejection.Code, Reason: rejection.Reason, At: time.Now()})
	default:
		s.t.Fatalf("%s: %s: %v", i.id, send.Key, err)
	}
	s.say("%s %s carried out", i.id, send.Key)
	s.look()
	return true
}

// answer hands the answer to the last message back.
func (s *stage) answer(i *instance) bool {
	s.t.Helper()
	if len(i.answers) == 0 {
		return false
	}
	in := i.answers[0]
	i.answers = i.answers[1:]
	switch a := in.(type) {
	case saga.Succeeded:
		s.input(i, a.Key+" succeeded", in)
	case saga.Refused:
		s.input(i, fmt.Sprintf("%s refused: %s: %s", a.Key, a.Code, a.Reason), in)
	}
	return true
}

// fire lets the timer of an instance go off.
func (s *stage) fire(i *instance) bool {
	s.t.Helper()
	if !i.timers["timeout"] {
		return false
	}
	delete(i.timers, "timeout")
	s.input(i, "timer timeout fired", saga.Fired{Timer: "timeout", At: time.Now()})
	return true
}

// each calls f for every instance, in an order that is always the same.
func (s *stage) each(f func(*played, *instance)) {
	for _, p := range s.sagas {
		ids := make([]string, 0, len(p.open))
		for id := range p.open {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			f(p, p.open[id])
		}
	}
}

// settle goes on until nothing is left to do but to wait for a timer or an operator.
func (s *stage) settle() {
	s.t.Helper()
	for busy := true; busy; {
		busy = s.deliver()
		s.each(func(p *played, i *instance) {
			busy = s.carryOut(p, i) || busy
			busy = s.answer(i) || busy
		})
	}
	s.checkReplay()
}

// checkReplay folds the inputs of every instance again, as a restarted runner does: the actions must be the same.
func (s *stage) checkReplay() {
	s.t.Helper()
	s.each(func(p *played, i *instance) {
		first, second := p.start(), p.start()
		for n, in := range i.inputs {
			a, errA := first(in)
			b, errB := second(in)
			if !reflect.DeepEqual(a, b) || fmt.Sprint(errA) != fmt.Sprint(errB) {
				s.t.Fatalf("%s, input %d: React is not pure: %v, %v and then %v, %v", i.id, n+1, a, errA, b, errB)
			}
		}
	})
}

// taken returns what happened since the last call.
func (s *stage) taken() string {
	defer s.said.Reset()
	return s.said.String()
}

// spell writes a command as transcripts show it.
func spell(c any) string {
	when := func(t time.Time) string { return t.Format("15:04") }
	switch c := c.(type) {
	case inventory.Try:
		return fmt.Sprintf("inventory.Try %s %d for %s at %s", c.Code, c.Quantity, c.Reservation, when(c.At))
	case inventory.Confirm:
		return fmt.Sprintf("inventory.Confirm %s for %s at %s", c.Code, c.Reservation, when(c.At))
	case inventory.Cancel:
		return fmt.Sprintf("inventory.Cancel %s for %s at %s", c.Code, c.Reservation, when(c.At))
	case inventory.ReturnGoods:
		return fmt.Sprintf("inventory.ReturnGoods %s %d of %s at %s", c.Code, c.Quantity, c.Reference, when(c.At))
	case payment.Authorize:
		return fmt.Sprintf("payment.Authorize %s %s %s by %s at %s", c.ID, c.Amount, c.Amount.Currency(), c.Method, when(c.At))
	case payment.Capture:
		return fmt.Sprintf("payment.Capture %s at %s", c.ID, when(c.At))
	case payment.Void:
		return fmt.Sprintf("payment.Void %s at %s: %s", c.ID, when(c.At), c.Reason)
	case payment.RefundUnreferenced:
		return fmt.Sprintf("payment.RefundUnreferenced %s %s %s at %s: %s", c.ID, c.Amount, c.Amount.Currency(), when(c.At), c.Reason)
	case order.Confirm:
		return fmt.Sprintf("order.Confirm %s at %s", c.ID, when(c.At))
	case order.Ship:
		return fmt.Sprintf("order.Ship %s at %s", c.ID, when(c.At))
	case order.Cancel:
		return fmt.Sprintf("order.Cancel %s at %s: %s", c.ID, when(c.At), c.Reason)
	case returns.Complete:
		return fmt.Sprintf("returns.Complete %s at %s", c.ID, when(c.At))
	}
	return fmt.Sprintf("%T %+v", c, c)
}

// state folds a stream.
func state[S, C, E any](s *stage, a commands.Aggregate[S, C, E], id string) S {
	s.t.Helper()
	var folded S
	if a.Zero != nil {
		folded = a.Zero()
	}
	for r, err := range s.store.Read(context.Background(), eventstore.Stream(a.Category, id), 1) {
		if err != nil {
			s.t.Fatalf("read: %v", err)
		}
		e, err := a.Codec.Decode(&r)
		if err != nil {
			s.t.Fatalf("decode: %v", err)
		}
		folded = a.Evolve(folded, e)
	}
	return folded
}

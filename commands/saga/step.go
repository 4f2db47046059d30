package saga

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
)

// stepRecord is the payload of a step event; the package comment describes it.
type stepRecord struct {
	In       inputRecord   `json:"in"`
	At       time.Time     `json:"at"`
	Send     []sendRecord  `json:"send,omitempty"`
	Set      []timerRecord `json:"set,omitempty"`
	Cancel   []string      `json:"cancel,omitempty"`
	Complete *string       `json:"complete,omitempty"`
}

// The kinds of inputs, as step events name them.
const (
	kindTriggered = "triggered"
	kindVoided    = "voided"
	kindSucceeded = "succeeded"
	kindRefused   = "refused"
	kindFired     = "fired"
)

// inputRecord holds an input by reference: a trigger is read again from its stream, a receipt from the store.
type inputRecord struct {
	Kind    string     `json:"kind"`
	Stream  string     `json:"stream,omitempty"`
	Version uint64     `json:"version,omitempty"`
	Type    string     `json:"type,omitempty"`
	Dot     dotText    `json:"dot,omitzero"` // of the event; steps of earlier programs have none
	Key     string     `json:"key,omitempty"`
	Code    string     `json:"code,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Timer   string     `json:"timer,omitempty"`
	Due     *time.Time `json:"due,omitempty"`
	// Position is where the commands' last event stands, for those who read the stream by eye.
	Position string `json:"position,omitempty"`
}

func (in *inputRecord) seenKey() seenKey { return seenKey{in.Stream, in.Dot.Log} }

// inputOf refers to an event.
func inputOf(kind string, e *eventstore.Recorded) inputRecord {
	return inputRecord{Kind: kind, Stream: e.Stream.String(), Version: e.Version, Type: e.Type, Dot: dotText{e.Dot}}
}

// dotText is a dot as steps record it.
type dotText struct{ eventstore.Dot }

// MarshalText implements encoding.TextMarshaler.
func (d dotText) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *dotText) UnmarshalText(text []byte) (err error) {
	d.Dot, err = eventstore.ParseDot(string(text))
	return err
}

type sendRecord struct {
	Key          string            `json:"key"`
	Topic        string            `json:"topic,omitempty"`
	Note         map[string]string `json:"note,omitempty"`
	Compensation bool              `json:"compensation,omitempty"`
}

type timerRecord struct {
	Name string    `json:"name"`
	Due  time.Time `json:"due"`
}

// identity names the input within its instance: no input has two steps that count.
func (in *inputRecord) identity() string {
	switch in.Kind {
	case kindTriggered:
		return "t/" + in.Dot.String()
	case kindVoided:
		return "v/" + in.Dot.String()
	case kindFired:
		return "f/" + in.Timer + "@" + strconv.FormatInt(in.Due.UnixNano(), 10)
	}
	return "o/" + in.Key
}

// planned is a step with the sends that its record only names.
type planned struct {
	record stepRecord
	sends  []Send
	ignore bool
	// from is the arrival that it answers, nil where it answers something else; cause names the message that led to it.
	from  *arrival
	cause string
}

// plan checks the actions of a reaction and makes the record of its step.
func plan(in inputRecord, at time.Time, actions []Action, used map[string]bool) (planned, error) {
	p := planned{record: stepRecord{In: in, At: at}}
	for _, a := range actions {
		switch a := a.(type) {
		case Send:
			if err := p.send(a, used); err != nil {
				return planned{}, err
			}
		case SetTimer:
			if a.Name == "" {
				return planned{}, errors.New("a timer has no name")
			}
			p.record.Set = append(p.record.Set, timerRecord{a.Name, at.Add(a.After)})
		case CancelTimer:
			p.record.Cancel = append(p.record.Cancel, a.Name)
			p.record.Set = slices.DeleteFunc(p.record.Set, func(t timerRecord) bool { return t.Name == a.Name })
		case Complete:
			p.record.Complete = &a.Outcome
		case Ignore:
			p.ignore = true
		default:
			return planned{}, fmt.Errorf("action %T is unknown; actions are values, not pointers", a)
		}
	}
	if p.ignore && (len(actions) > 1 || in.Kind != kindTriggered && in.Kind != kindVoided) {
		return planned{}, errors.New("Ignore must be the only action, and the answer to a trigger, or to one that is void")
	}
	return p, nil
}

func (p *planned) send(s Send, used map[string]bool) error {
	switch {
	case s.Key == "":
		return errors.New("a send has no key")
	case len(s.Commands) == 0:
		return fmt.Errorf("send %q has no commands", s.Key)
	case used[s.Key] || slices.ContainsFunc(p.sends, func(o Send) bool { return o.Key == s.Key }):
		return fmt.Errorf("send key %q is used twice", s.Key)
	}
	p.sends = append(p.sends, s)
	p.record.Send = append(p.record.Send, sendRecord{s.Key, s.Topic, s.Note, s.Compensation})
	return nil
}

// differs says in what a reaction, done again, is not the one that was recorded; empty when all that matters is the same.
func (p *planned) differs(recorded *stepRecord) string {
	again := &p.record
	keys := func(s []sendRecord) (out []string) {
		for _, one := range s {
			out = append(out, one.Key)
		}
		return out
	}
	sameTimer := func(a, b timerRecord) bool { return a.Name == b.Name && a.Due.Equal(b.Due) }
	switch {
	case p.ignore:
		return "it is ignored now"
	case !slices.Equal(keys(again.Send), keys(recorded.Send)):
		return fmt.Sprintf("it sent %q, now %q", keys(recorded.Send), keys(again.Send))
	case !slices.EqualFunc(again.Set, recorded.Set, sameTimer):
		return fmt.Sprintf("it set timers %v, now %v", recorded.Set, again.Set)
	case !slices.Equal(again.Cancel, recorded.Cancel):
		return fmt.Sprintf("it cancelled timers %q, now %q", recorded.Cancel, again.Cancel)
	case (again.Complete == nil) != (recorded.Complete == nil):
		return "it completes now and did not, or the other way round"
	}
	return ""
}

// event returns the step as the log takes it.
func (s *stepRecord) event(saga string, id uuid.UUID) (eventstore.Event, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("encode step: %w", err)
	}
	e := eventstore.Event{ID: id, Type: stepType(saga), Kind: eventstore.KindDomain, Encoding: eventstore.JSON, Payload: payload}
	if slices.ContainsFunc(s.Send, func(one sendRecord) bool { return one.Compensation }) {
		e.Kind = eventstore.KindCompensation
	}
	return e, nil
}

func stepType(saga string) string { return saga + ".step.v1" }

// escapeID keeps ids with slashes apart from the parts around them.
var escapeID = strings.NewReplacer("%", "%25", "/", "%2F")

// CommandID returns the idempotency key under which an instance sends what it calls key:
// "saga/<name>/<instance>/<key>", with '/' and '%' of the instance's id percent-encoded. Beyond
// eventstore.MaxRequestIDBytes it is "saga/<name>/#<hash>". Where several sites write, the name is "<name>.<site>".
func CommandID(saga, instance, key string) string {
	return shortened("saga/"+saga+"/", escapeID.Replace(instance)+"/"+key)
}

// Sent reports whether a command id is one of a saga of that name, at whatever site.
func Sent(commandID, saga string) bool {
	rest, ok := strings.CutPrefix(commandID, "saga/"+saga)
	return ok && (strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "."))
}

// stepID returns the request id under which the nth step for an input is recorded, from 1; those before it do not count.
func stepID(saga, instance string, in *inputRecord, nth int) string {
	identity := in.identity()
	if nth > 1 {
		identity = strconv.Itoa(nth) + "/" + identity // which begins with a letter
	}
	return shortened("step/"+saga+"/", escapeID.Replace(instance)+"/"+identity)
}

func shortened(prefix, rest string) string {
	if len(prefix)+len(rest) <= eventstore.MaxRequestIDBytes {
		return prefix + rest
	}
	sum := sha256.Sum256([]byte(rest))
	return prefix + "#" + hex.EncodeToString(sum[:20])
}

// stepSpace is the UUID namespace of step events, so that a step's event has the same id however often it is tried.
var stepSpace = uuid.MustParse("5d2c1c3e-6f0b-5a59-9d7c-0b1f5a5e7a10")

func stepEventID(tenant, stepID string) uuid.UUID {
	return uuid.NewSHA1(stepSpace, []byte(tenant+"/"+stepID))
}

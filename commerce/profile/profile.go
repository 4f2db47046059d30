// Package profile is the aggregate of a customer's settings: in which language and currency the shop shows itself, and
// whether the newsletter is wanted. None of it tells who the customer is.
//
// Settings may be changed at every site. Of two changes of one setting that are made at once the later one wins, setting by
// setting, and what it has overwritten unseen is on record as a conflict. The package is pure: times and ids come in with the
// commands.
package profile

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/calendar"
	"github.com/tributary-es/tributary/commerce/money"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the profile's streams; a stream's id is the reference to the customer.
const Category = "profile"

// ChangedV1 is the wire name of the one event. It never changes.
const ChangedV1 = "profile.changed.v1"

// Event is the message that Codec knows: *commercev1.ProfileChanged.
type Event = proto.Message

// Codec returns the codec of the profile's events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{ChangedV1: &commercev1.ProfileChanged{}})

// State is what a customer has set.
type State struct {
	// Language is empty for none in particular, Currency for that of the shop.
	Language, Currency string
	Newsletter         bool
}

// Change changes settings; nil leaves one as it is.
type Change struct {
	CustomerID string
	// Language is a tag such as "fr" or "pt-BR", of letters, digits and hyphens, at most 35.
	Language *string
	// Currency is an ISO 4217 code.
	Currency   *string
	Newsletter *bool
	At         time.Time
}

// Aggregate returns the aggregate of the profile.
func Aggregate() commands.Aggregate[State, Change, Event] {
	return commands.Aggregate[State, Change, Event]{
		Category: Category,
		ID:       func(c Change) string { return c.CustomerID },
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
		Resolver: commands.LastWriter[State, Event]{Fields: fields},
	}
}

// Register adds the profile and its command to a bus.
func Register(b *commands.Bus) error {
	return commands.Register[State, Change, Event](b, Aggregate())
}

func validate(c Change) error {
	var faults []error
	if c.Language == nil && c.Currency == nil && c.Newsletter == nil {
		faults = append(faults, errors.New("no setting is given"))
	}
	if c.Language != nil && !languageTag(*c.Language) {
		faults = append(faults, fmt.Errorf("language %q is not a tag such as pt-BR", *c.Language))
	}
	if c.Currency != nil && *c.Currency != "" {
		if _, err := money.Zero(*c.Currency); err != nil {
			faults = append(faults, err)
		}
	}
	if !calendar.Holds(c.At) {
		faults = append(faults, errors.New("time is missing or outside the "+calendar.Years))
	}
	return errors.Join(faults...)
}

// languageTag reports whether a text has the form of a language tag, or is empty.
func languageTag(s string) bool {
	return len(s) <= 35 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// decide records the settings that are others than before.
func decide(s State, c Change) ([]Event, error) {
	e := &commercev1.ProfileChanged{AtMs: c.At.UnixMilli()}
	if c.Language != nil && *c.Language != s.Language {
		e.Language = proto.String(*c.Language)
	}
	if c.Currency != nil && *c.Currency != s.Currency {
		e.Currency = proto.String(*c.Currency)
	}
	if c.Newsletter != nil && *c.Newsletter != s.Newsletter {
		e.Newsletter = proto.Bool(*c.Newsletter)
	}
	if len(fields(e)) == 0 {
		return nil, nil
	}
	return []Event{e}, nil
}

// fields names the settings that an event sets.
func fields(event Event) (set []string) {
	e, ok := event.(*commercev1.ProfileChanged)
	if !ok {
		return nil
	}
	if e.Language != nil {
		set = append(set, "language")
	}
	if e.Currency != nil {
		set = append(set, "currency")
	}
	if e.Newsletter != nil {
		set = append(set, "newsletter")
	}
	return set
}

func evolve(s State, event Event) State {
	e, ok := event.(*commercev1.ProfileChanged)
	if !ok {
		return s
	}
	if e.Language != nil {
		s.Language = e.GetLanguage()
	}
	if e.Currency != nil {
		s.Currency = e.GetCurrency()
	}
	if e.Newsletter != nil {
		s.Newsletter = e.GetNewsletter()
	}
	return s
}

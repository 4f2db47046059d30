package groups

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Settings of a group. They are given when it is made and never change.
type Settings struct {
	// Tenant, when set, must match. Categories and Types hold alternatives, Query combinations of types and tags; empty
	// lets everything through.
	Tenant     string           `json:"tenant,omitempty"`
	Categories []string         `json:"categories,omitempty"`
	Types      []string         `json:"types,omitempty"`
	Query      eventstore.Query `json:"query,omitempty"`
	// Start says where the group begins. The zero value is the beginning of the log.
	Start Start `json:"start"`
	// Lease is how long a member has for an event before it goes to another. Zero means 30 s; from 10 ms to 24 h.
	Lease time.Duration `json:"lease"`
	// MaxTries is after how many hand-outs an event that is not settled is parked. Zero means 10.
	MaxTries int `json:"max_tries"`
	// PassOver has a stream go on past a parked event, out of order. Otherwise its later events wait behind it.
	PassOver bool `json:"pass_over,omitempty"`
}

// Start is a place in the log: after Position, or after what was recorded up to Time, or at the End of now; at most one is
// set. The zero value is the beginning.
type Start struct {
	Position eventstore.Position `json:"position,omitzero"`
	Time     time.Time           `json:"time,omitzero"`
	End      bool                `json:"end,omitempty"`
}

// Limits of settings.
const (
	maxTries = 1_000_000
	minLease = 10 * time.Millisecond
	maxLease = 24 * time.Hour
	maxTerms = 1_000
)

// normalize fills defaults in and says all that is wrong. Errors match eventstore.ErrInvalid.
func (s *Settings) normalize() error {
	s.Lease = cmp.Or(s.Lease, 30*time.Second)
	s.MaxTries = cmp.Or(s.MaxTries, 10)
	s.Start.Time = s.Start.Time.Round(0).UTC()
	if s.Start.Time.IsZero() {
		s.Start.Time = time.Time{}
	}
	for _, list := range []*[]string{&s.Categories, &s.Types} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: %s", eventstore.ErrInvalid, fmt.Sprintf(format, args...)))
	}
	if s.Lease < minLease || s.Lease > maxLease {
		fault("a lease of %s, use %s to %s", s.Lease, minLease, maxLease)
	}
	if s.MaxTries < 1 || s.MaxTries > maxTries {
		fault("%d tries, use 1 to %d", s.MaxTries, maxTries)
	}
	if n := len(s.Categories) + len(s.Types); n > maxTerms {
		fault("%d categories and types, the limit is %d", n, maxTerms)
	}
	for _, c := range s.Categories {
		if eventstore.IsSystemCategory(c) {
			fault("category %s is Tributary's own, and no group gets it", c)
		}
	}
	filter := s.filter(0)
	faults = append(faults, filter.Validate())
	set := 0
	for _, is := range []bool{s.Start.Position != eventstore.Position{}, !s.Start.Time.IsZero(), s.Start.End} {
		if is {
			set++
		}
	}
	if set > 1 {
		fault("a start at more than one of position, time and end")
	}
	return errors.Join(faults...)
}

// filter returns the filter of the group's subscription.
func (s *Settings) filter(chunk int) eventstore.Filter {
	return eventstore.Filter{Tenant: s.Tenant, Categories: s.Categories, Types: s.Types, Query: s.Query, MaxChunk: chunk}
}

func (s *Settings) equal(t *Settings) bool {
	return s.Start.Time.Equal(t.Start.Time) && reflect.DeepEqual(s.withoutTime(), t.withoutTime())
}

func (s *Settings) withoutTime() Settings {
	c := *s
	c.Start.Time = time.Time{}
	if len(c.Query) == 0 {
		c.Query = nil
	}
	return c
}

// validateName says what is wrong with a group's name: it is written like a category.
func validateName(name string) error {
	if err := (eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: name, ID: "x"}).Validate(); err != nil {
		return fmt.Errorf("name of a group: %w", err)
	}
	if eventstore.IsSystemCategory(name) {
		return fmt.Errorf("%w: name of a group: %s begins with $", eventstore.ErrInvalid, name)
	}
	return nil
}

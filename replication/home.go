package replication

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// ErrAway: other sites may have taken this one for gone, and it has not heard yet what they have done.
var ErrAway = errors.New("the site may have been taken for gone")

// homeLease says until when the site is at home, or why it is not.
type homeLease struct {
	until time.Duration // by Site.instant
	why   error         // nil: nothing
}

// AtHome returns nil while no other site can have taken over what is written at this one alone, without its being known here; else an
// error that matches ErrAway and eventstore.ErrUnavailable. It is asked in the moment of a write: a process that stood still finds
// that its time is over before it hears of anything else.
func (s *Site) AtHome() error {
	lease := s.home.Load()
	if lease.why != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, lease.why)
	}
	if late := time.Since(s.start) - lease.until; late >= 0 {
		return fmt.Errorf("%w: %w: for %s it is not sure that they know that it is there, and it asks them first; try again in a moment", eventstore.ErrUnavailable, ErrAway, late.Round(time.Millisecond))
	}
	return nil
}

// setHome takes from the core whether the site is at home.
func (r *run) setHome() {
	until, err := r.core.AtHome(r.instant())
	before := r.home.Swap(&homeLease{until, err})
	switch {
	case err != nil && before.why == nil:
		r.log.Warn("nothing is written that is written at one site alone, until it is known what others have done", slog.Any("error", err))
	case err == nil && before.why != nil:
		r.log.Info("what is written at one site alone may be written")
	}
}

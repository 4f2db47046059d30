package hlc

import (
	"sync"
	"time"
)

// MaxStep is by how much a wall clock may move against the monotonic one, between two readings, and count as one that is corrected;
// beyond it has jumped.
const MaxStep = 500 * time.Millisecond

// SteadyOptions of a Steady. The zero value is good.
type SteadyOptions struct {
	// Read reads the machine's clocks at one moment: the time of day, and how long it is, by the monotonic clock, since some moment. Nil
	// means those of package time.
	Read func() (wall time.Time, mono time.Duration)
	// Jumped, when not nil, is told of a jump that was followed at once: by how much the time of day has moved. It must not call the Steady.
	Jumped func(by time.Duration)
}

// Steady is a time of day that does not jump once it is held: where the machine's jumps against its monotonic clock, a Steady goes on by the
// latter, from what the time of day was before, until it is told to follow. It is safe for concurrent use.
//
// INVARIANT: once held, two readings lie as far apart as the monotonic clock says, but for MaxStep and for what Follow was told.
type Steady struct {
	o SteadyOptions

	mu     sync.Mutex // guards all below
	held   bool
	begun  bool
	origin time.Time // the time of day that is followed, at the monotonic clock's zero
}

// NewSteady returns a Steady that is not held yet: it follows every jump.
func NewSteady(o SteadyOptions) *Steady {
	if o.Read == nil {
		zero := time.Now()
		o.Read = func() (time.Time, time.Duration) {
			now := time.Now()
			return now.Round(0), now.Sub(zero) // without its monotonic reading, lest times be compared by that
		}
	}
	return &Steady{o: o}
}

// Now returns the time of day. It is a wall clock for New.
func (s *Steady) Now() time.Time {
	now, _, _ := s.Read()
	return now
}

// Read returns the time of day, what the monotonic clock showed at that moment, and how far the machine's time of day is ahead of what is
// returned: zero unless it has jumped.
func (s *Steady) Read() (now time.Time, mono, jump time.Duration) {
	wall, mono := s.o.Read()
	s.mu.Lock()
	step := wall.Add(-mono).Sub(s.origin)
	jumped := s.begun && step.Abs() > MaxStep
	if jumped && s.held {
		now = s.origin.Add(mono)
		s.mu.Unlock()
		return now, mono, step
	}
	s.origin, s.begun = wall.Add(-mono), true
	s.mu.Unlock()
	if jumped && s.o.Jumped != nil {
		s.o.Jumped(step)
	}
	return wall, mono, 0
}

// Hold has jumps not followed from now on.
func (s *Steady) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

// Follow has a jump followed that Read told of. It reports whether the machine's time of day is still where it was then.
func (s *Steady) Follow(jump time.Duration) bool {
	wall, mono := s.o.Read()
	s.mu.Lock()
	defer s.mu.Unlock()
	origin := wall.Add(-mono)
	if (origin.Sub(s.origin) - jump).Abs() > MaxStep {
		return false
	}
	s.origin = origin
	return true
}

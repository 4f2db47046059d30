// Package hlc is a hybrid logical clock: wall-clock time that never goes back and never gives one value twice.
//
// Source: Kulkarni et al., "Logical Physical Clocks", 2014. A Timestamp has 48 bits of Unix milliseconds and 16 bits of
// logical counter.
package hlc

import (
	"strconv"
	"sync"
	"time"
)

// Timestamp is a reading of a hybrid logical clock. Readings compare as integers.
type Timestamp uint64

const logicalBits = 16

// At returns the first timestamp of the millisecond that t falls into.
func At(t time.Time) Timestamp { return Timestamp(uint64(t.UnixMilli()) << logicalBits) }

// Time returns the wall-clock part, in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t >> logicalBits)).UTC() }

// Logical returns the counter that orders readings of one millisecond.
func (t Timestamp) Logical() uint16 { return uint16(t) }

// String returns "milliseconds.counter".
func (t Timestamp) String() string {
	return strconv.FormatUint(uint64(t>>logicalBits), 10) + "." + strconv.FormatUint(uint64(t.Logical()), 10)
}

// Clock gives timestamps. It is safe for concurrent use.
type Clock struct {
	wall func() time.Time

	mu   sync.Mutex // guards last
	last Timestamp
}

// New returns a clock over the given wall clock; nil means time.Now.
func New(wall func() time.Time) *Clock {
	if wall == nil {
		wall = time.Now
	}
	return &Clock{wall: wall}
}

// Now returns a timestamp greater than every one given or observed before.
func (c *Clock) Now() Timestamp { return c.Take(1) }

// Take gives n timestamps at once, at least one, each by 1 greater than the one before, and returns the first.
func (c *Clock) Take(n int) Timestamp {
	now := At(c.wall())
	c.mu.Lock()
	defer c.mu.Unlock()
	first := max(now, c.last+1)
	c.last = first + Timestamp(n-1)
	return first
}

// Shown returns what the clock shows: no less than what was given or observed before. It gives nothing: what is given next may be the same, and a
// clock that shows a time that is wrong can be set right, while what was given binds it.
func (c *Clock) Shown() Timestamp {
	now := At(c.wall())
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(now, c.last)
}

// Wall returns the first timestamp of the wall clock's millisecond, which others may have too.
func (c *Clock) Wall() Timestamp { return At(c.wall()) }

// Observe makes every later reading greater than t.
func (c *Clock) Observe(t Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, t)
}

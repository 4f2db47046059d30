// Package calendar says which times the shop takes: those that every read model can hold.
package calendar

import "time"

// The times that are taken are those from Earliest on and before End, in any zone: ClickHouse's
// DateTime64 begins with the one, and nanoseconds since 1970 in 64 bits, in which drivers count, end soon after the other.
var (
	Earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	End      = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Years names the times that are taken, for messages.
const Years = "years 1900 to 2261"

// Holds reports whether a time is taken.
func Holds(at time.Time) bool { return !at.Before(Earliest) && at.Before(End) }

package kafkalog

import "time"

// SetSessionLife changes how long a mirror holds the partition under one epoch.
func SetSessionLife(d time.Duration) (restore func()) {
	old := sessionLife
	sessionLife = d
	return func() { sessionLife = old }
}

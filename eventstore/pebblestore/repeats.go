package pebblestore

import (
	"sync"
	"time"
)

// repeatAfter is when something is said again that was said before, maxRepeats how much is remembered.
const (
	repeatAfter = time.Minute
	maxRepeats  = 1000
)

// repeats knows what was said in the last minute. The zero value knows nothing. It is safe for concurrent use.
type repeats struct {
	mu   sync.Mutex // guards said
	said map[string]time.Time
}

// first reports whether something was not said in the last minute, and takes it for said.
func (r *repeats) first(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, known := r.said[what]; known && now.Sub(at) < repeatAfter {
		return false
	}
	if r.said == nil || len(r.said) >= maxRepeats {
		r.said = map[string]time.Time{}
	}
	r.said[what] = now
	return true
}

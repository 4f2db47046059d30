package importer

import (
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// furthest keeps the furthest of the positions it is shown.
type furthest struct {
	mu sync.Mutex // guards at
	at eventstore.Position
}

func (f *furthest) observe(token string) {
	p, err := eventstore.ParsePosition(token)
	if err != nil {
		return // an answer without a position moves nothing
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Compare(f.at) > 0 {
		f.at = p
	}
}

// String returns the token of the furthest position.
func (f *furthest) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at.String()
}

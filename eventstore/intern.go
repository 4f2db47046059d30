package eventstore

import (
	"maps"
	"sync"
	"sync/atomic"
)

// intern returns one shared string for names that repeat without end (sites, tenants, categories, event types), so that
// decoding does not allocate them anew. The table is bounded: past its limit names are simply copied.
func intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := (*interned.Load())[string(b)]; ok {
		return s
	}
	return internNew(string(b))
}

const maxInterned = 4096

// interned is read several times for every decoded event and hardly ever written: so it is copied when a name is added.
var (
	interned  atomic.Pointer[map[string]string]
	interning sync.Mutex // held by who replaces interned
)

func init() { interned.Store(&map[string]string{}) }

func internNew(s string) string {
	interning.Lock()
	defer interning.Unlock()
	names := *interned.Load()
	if shared, ok := names[s]; ok {
		return shared
	}
	if len(names) >= maxInterned {
		return s
	}
	next := maps.Clone(names)
	next[s] = s
	interned.Store(&next)
	return s
}

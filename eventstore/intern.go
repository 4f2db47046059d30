package eventstore

import "sync"

// intern returns one shared string for names that repeat without end (sites, tenants, categories, event types), so that
// decoding does not allocate them anew. The table is bounded: past its limit names are simply copied.
func intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	interned.RLock()
	s, ok := interned.names[string(b)]
	interned.RUnlock()
	if ok {
		return s
	}
	s = string(b)
	interned.Lock()
	defer interned.Unlock()
	if len(interned.names) < maxInterned {
		interned.names[s] = s
	}
	return s
}

const maxInterned = 4096

var interned = struct {
	sync.RWMutex // guards names
	names        map[string]string
}{names: map[string]string{}}

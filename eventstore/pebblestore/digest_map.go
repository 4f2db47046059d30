package pebblestore

import "iter"

// digestMap is a map from digests, which are random as they are: a table with open addressing, in one piece of memory that
// the garbage collector need not look into when the values hold no pointers. A look most often touches one line of the
// cache, where Go's map hashes the digest again and touches two or three. The zero value is empty.
type digestMap[V any] struct {
	slots []digestSlot[V] // a power of two of them, at most three quarters of them taken
	count int
}

// digestSlot is free when its key is zero, which no digest of 128 random bits is.
type digestSlot[V any] struct {
	key   headKey
	value V
}

const minDigestSlots = 16

// newDigestMap returns a map with room for n entries.
func newDigestMap[V any](n int) digestMap[V] {
	var m digestMap[V]
	if n > 0 {
		m.resize(n)
	}
	return m
}

func (m *digestMap[V]) len() int { return m.count }

// resize makes room for n entries, of which there are no fewer.
func (m *digestMap[V]) resize(n int) {
	size := minDigestSlots
	for size*3 < n*4 {
		size *= 2
	}
	old := m.slots
	m.slots, m.count = make([]digestSlot[V], size), 0
	for i := range old {
		if old[i].key != (headKey{}) {
			*m.at(old[i].key) = old[i].value
		}
	}
}

// get returns the value of a key.
func (m *digestMap[V]) get(k headKey) (value V, known bool) {
	if m.count == 0 {
		return value, false
	}
	mask := uint64(len(m.slots) - 1)
	for i := k[0] & mask; ; i = (i + 1) & mask {
		switch slot := &m.slots[i]; slot.key {
		case k:
			return slot.value, true
		case headKey{}:
			return value, false
		}
	}
}

// at returns where the value of a key is, which is zero for one that was not there. It is valid until the next call.
func (m *digestMap[V]) at(k headKey) *V {
	if m.count*4 >= len(m.slots)*3 {
		m.resize(m.count + 1)
	}
	mask := uint64(len(m.slots) - 1)
	for i := k[0] & mask; ; i = (i + 1) & mask {
		slot := &m.slots[i]
		if slot.key == k {
			return &slot.value
		}
		if slot.key == (headKey{}) {
			slot.key = k
			m.count++
			return &slot.value
		}
	}
}

func (m *digestMap[V]) put(k headKey, value V) { *m.at(k) = value }

// clear removes all entries and keeps the memory.
func (m *digestMap[V]) clear() {
	clear(m.slots)
	m.count = 0
}

// all yields the entries in an order that says nothing.
func (m *digestMap[V]) all() iter.Seq2[headKey, *V] {
	return func(yield func(headKey, *V) bool) {
		for i := range m.slots {
			if m.slots[i].key != (headKey{}) && !yield(m.slots[i].key, &m.slots[i].value) {
				return
			}
		}
	}
}

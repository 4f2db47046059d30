// Package keywrites records what projections write to projections.Keys and reduces it to what a sink has to do: at most
// one write for each key, field and member, however often the events of a batch wrote it.
package keywrites

import (
	"fmt"
	"math"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

type kind uint8

const (
	set kind = iota
	drop
	hashSet
	hashAdd
	hashDelete
	sortedAdd
	sortedRemove
)

type op struct {
	kind   kind
	key    string
	name   string // field or member
	value  string
	bytes  []byte
	number uint64 // delta or the bits of a score
}

// Recorder is a projections.Keys and a projections.Recorder that remembers the writes in order. The zero value is ready.
type Recorder struct {
	ops []op
	// full is from how many writes on Begin looks for those that were overwritten.
	full int
}

// Begin is part of projections.Recorder. Keys do not say where they come from; what was overwritten is forgotten.
func (r *Recorder) Begin(eventstore.Position) {
	if len(r.ops) >= max(r.full, fewWrites) {
		r.forgetOverwritten()
		r.full = 2 * len(r.ops)
	}
}

// Mark and Undo are those of projections.Recorder.
func (r *Recorder) Mark() int { return len(r.ops) }

// Undo forgets what was written since the mark.
func (r *Recorder) Undo(mark int) {
	clear(r.ops[mark:])
	r.ops = r.ops[:mark]
}

// Reverse is part of projections.Recorder. A key that was set or deleted as a whole was the stream's own, and so was a field
// that was set or deleted: it goes, whatever was added to it besides.
func (r *Recorder) Reverse(mark int) {
	ops := slices.Clone(r.ops[mark:])
	r.Undo(mark)
	type place struct{ key, name string }
	keys, fields := make(map[string]bool), make(map[place]bool)
	for i := range ops {
		switch o := &ops[i]; o.kind {
		case set, drop:
			keys[o.key] = true
		case hashSet, hashDelete:
			fields[place{o.key, o.name}] = true
		}
	}
	for key := range keys {
		r.Delete(key)
	}
	for at := range fields {
		if !keys[at.key] {
			r.HashDelete(at.key, at.name)
		}
	}
	for i := range ops {
		o := &ops[i]
		switch {
		case keys[o.key]:
		case o.kind == sortedAdd, o.kind == sortedRemove:
			r.SortedRemove(o.key, o.name)
		case o.kind == hashAdd && !fields[place{o.key, o.name}]:
			r.subtract(o.key, o.name, int64(o.number))
		}
	}
}

// subtract adds to a field what takes an addition back.
func (r *Recorder) subtract(key, field string, delta int64) {
	if delta == math.MinInt64 { // it has no counterpart
		r.HashAdd(key, field, math.MaxInt64)
		r.HashAdd(key, field, 1)
		return
	}
	r.HashAdd(key, field, -delta)
}

// Clear forgets everything and keeps the memory.
func (r *Recorder) Clear() {
	r.Undo(0)
	r.full = 0
}

// Set is projections.Keys.Set.
func (r *Recorder) Set(key string, value []byte) {
	r.ops = append(r.ops, op{kind: set, key: key, bytes: value})
}

// Delete is projections.Keys.Delete.
func (r *Recorder) Delete(key string) { r.ops = append(r.ops, op{kind: drop, key: key}) }

// HashSet is projections.Keys.HashSet.
func (r *Recorder) HashSet(key, field, value string) {
	r.ops = append(r.ops, op{kind: hashSet, key: key, name: field, value: value})
}

// HashAdd is projections.Keys.HashAdd.
func (r *Recorder) HashAdd(key, field string, delta int64) {
	r.ops = append(r.ops, op{kind: hashAdd, key: key, name: field, number: uint64(delta)})
}

// HashDelete is projections.Keys.HashDelete.
func (r *Recorder) HashDelete(key, field string) {
	r.ops = append(r.ops, op{kind: hashDelete, key: key, name: field})
}

// SortedAdd is projections.Keys.SortedAdd. A score that is not a number panics, by which the event is parked.
func (r *Recorder) SortedAdd(key, member string, score float64) {
	if math.IsNaN(score) {
		panic(fmt.Sprintf("score of %q in %q is not a number", member, key))
	}
	r.ops = append(r.ops, op{kind: sortedAdd, key: key, name: member, number: math.Float64bits(score + 0)})
}

// SortedRemove is projections.Keys.SortedRemove.
func (r *Recorder) SortedRemove(key, member string) {
	r.ops = append(r.ops, op{kind: sortedRemove, key: key, name: member})
}

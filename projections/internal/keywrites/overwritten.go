package keywrites

// fewWrites are not worth looking through.
const fewWrites = 1 << 12

// overwritten reports whether nothing is left of a write of kind k when one of kind next to the same place comes after it.
func (k kind) overwritten(next kind) bool {
	switch k {
	case set:
		return next == set
	case hashSet, hashDelete:
		return next == hashSet || next == hashDelete
	case sortedAdd, sortedRemove:
		return next == sortedAdd || next == sortedRemove
	default:
		return false
	}
}

// forgetOverwritten forgets the writes of which nothing is left by the next one to the same place, so that a batch whose events write the
// same keys over and over takes the memory of what they come to. What Reduce makes of the rest is the same, an error too: a write is kept
// where something else was done to its key as a whole in between.
func (r *Recorder) forgetOverwritten() {
	type later struct {
		kind kind
		life uint32 // how often the key is set or dropped from there on
	}
	type spot struct {
		key, name string
		life      uint32
	}
	keys := make(map[string]later, len(r.ops)/2)
	spots := make(map[spot]kind, len(r.ops)/2)
	first := len(r.ops)
	for i := len(r.ops) - 1; i >= 0; i-- {
		o := &r.ops[i]
		next, known := keys[o.key]
		switch o.kind {
		case set, drop:
			if known && o.kind.overwritten(next.kind) {
				continue
			}
			next.life++
		default:
			at := spot{o.key, o.name, next.life}
			if kind, known := spots[at]; known && o.kind.overwritten(kind) {
				continue
			}
			spots[at] = o.kind
		}
		keys[o.key] = later{o.kind, next.life}
		first--
		r.ops[first] = *o
	}
	n := copy(r.ops, r.ops[first:])
	r.Undo(n)
}

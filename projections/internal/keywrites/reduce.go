package keywrites

import (
	"fmt"
	"math"
	"strconv"

	"github.com/tributary-es/tributary/projections"
)

// Base is what happens to a key as a whole, before its fields and members.
type Base uint8

// The bases.
const (
	Keep    Base = iota // the key stays as it is
	Drop                // it is deleted
	Replace             // it becomes the string Key.Value
)

// Key is all that a batch does to one key.
type Key struct {
	Name    string
	Base    Base
	Value   []byte
	Fields  []Field
	Members []Member

	// life counts how often the key was dropped or replaced; fields and members of an earlier life are forgotten.
	life uint32
}

// FieldOp is what happens to a field of a hash.
type FieldOp uint8

// What happens to fields.
const (
	FieldSet FieldOp = iota
	FieldAdd
	FieldDelete
)

// Field is what a batch does to one field of a hash.
type Field struct {
	Name  string
	Op    FieldOp
	Value string // FieldSet
	Delta int64  // FieldAdd
}

// Member is what a batch does to one member of a sorted set.
type Member struct {
	Name   string
	Remove bool
	Score  float64
}

// place finds a field or member among those of its key.
type place struct {
	key    *Key
	life   uint32
	sorted bool
	name   string
}

// Reduce returns what the recorded writes come to, keys in the order in which they were first written. The writes to one
// key have the same effect as if each was done in turn. ErrBadWrite when they cannot be right whatever the model holds.
func (r *Recorder) Reduce() ([]*Key, error) {
	keys := make([]*Key, 0, len(r.ops)/2)
	byName := make(map[string]*Key, len(r.ops)/2)
	places := make(map[place]int, len(r.ops))
	for i := range r.ops {
		o := &r.ops[i]
		k := byName[o.key]
		if k == nil {
			k = &Key{Name: o.key}
			byName[o.key] = k
			keys = append(keys, k)
		}
		switch o.kind {
		case set:
			k.begin(Replace, o.bytes)
			continue
		case drop:
			k.begin(Drop, nil)
			continue
		}
		if k.Base == Replace {
			return nil, fmt.Errorf("%w: key %q holds a string, and %q is written in it", projections.ErrBadWrite, o.key, o.name)
		}
		if sorted := o.kind >= sortedAdd; sorted && len(k.Fields) > 0 || !sorted && len(k.Members) > 0 {
			return nil, fmt.Errorf("%w: key %q is written as a hash and as a sorted set", projections.ErrBadWrite, o.key)
		}
		at := place{key: k, life: k.life, sorted: o.kind >= sortedAdd, name: o.name}
		n, known := places[at]
		if at.sorted {
			if !known {
				n = len(k.Members)
				places[at] = n
				k.Members = append(k.Members, Member{Name: o.name})
			}
			k.Members[n].Remove = o.kind == sortedRemove
			k.Members[n].Score = math.Float64frombits(o.number)
			continue
		}
		if !known {
			n = len(k.Fields)
			places[at] = n
			// On a key that was dropped, an unknown field is one that was deleted.
			k.Fields = append(k.Fields, Field{Name: o.name, Op: FieldAdd})
			if k.Base == Drop {
				k.Fields[n].Op = FieldDelete
			}
		}
		if err := k.Fields[n].apply(o); err != nil {
			return nil, fmt.Errorf("key %q: %w", o.key, err)
		}
	}
	return keys, nil
}

// begin starts a new life of the key.
func (k *Key) begin(b Base, value []byte) {
	k.Base, k.Value = b, value
	k.Fields, k.Members = nil, nil
	k.life++
}

// apply adds one more write to what is to happen to a field.
func (f *Field) apply(o *op) error {
	switch o.kind {
	case hashSet:
		*f = Field{Name: f.Name, Op: FieldSet, Value: o.value}
	case hashDelete:
		*f = Field{Name: f.Name, Op: FieldDelete}
	case hashAdd:
		delta := int64(o.number)
		switch f.Op {
		case FieldDelete:
			f.Op, f.Value = FieldSet, strconv.FormatInt(delta, 10)
		case FieldSet:
			sum, err := AddTo(f.Value, delta)
			if err != nil {
				return fmt.Errorf("field %q: %w", f.Name, err)
			}
			f.Value = sum
		case FieldAdd:
			sum := f.Delta + delta
			if (sum > f.Delta) != (delta > 0) && delta != 0 {
				return fmt.Errorf("field %q: %w: adding %d and %d overflows", f.Name, projections.ErrBadWrite, f.Delta, delta)
			}
			f.Delta = sum
		}
	}
	return nil
}

// AddTo adds to an integer in its decimal form, as HINCRBY does: ErrBadWrite when it is no integer of 64 bits in its
// shortest form, or the sum is none.
func AddTo(value string, delta int64) (string, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != value {
		return "", fmt.Errorf("%w: %q is not an integer to add to", projections.ErrBadWrite, value)
	}
	sum := n + delta
	if (sum > n) != (delta > 0) && delta != 0 {
		return "", fmt.Errorf("%w: adding %d to %d overflows", projections.ErrBadWrite, delta, n)
	}
	return strconv.FormatInt(sum, 10), nil
}

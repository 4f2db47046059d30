package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
)

// Digest hashes the content of a key-value model, whatever order it is told in: each string, hash field and member of a
// sorted set is hashed by itself (SHA-256 over its kind and its length-prefixed parts), the hashes are added up in four
// 64-bit lanes, and the sum is hashed together with the count. Each thing must be told once. The zero value is ready.
//
// It tells copies apart that differ by accident; it is no defense against somebody who makes up content to match.
type Digest struct {
	lanes [4]uint64
	count uint64
	buf   []byte
}

// String tells the digest of a key that holds a string of bytes.
func (d *Digest) String(key string, value []byte) {
	d.begin('s', key)
	d.buf = binary.AppendUvarint(d.buf, uint64(len(value)))
	d.buf = append(d.buf, value...)
	d.end()
}

// Field tells the digest of one field of a hash.
func (d *Digest) Field(key, field, value string) {
	d.begin('h', key)
	d.part(field)
	d.part(value)
	d.end()
}

// Member tells the digest of one member of a sorted set.
func (d *Digest) Member(key, member string, score float64) {
	d.begin('z', key)
	d.part(member)
	d.buf = binary.BigEndian.AppendUint64(d.buf, math.Float64bits(score+0)) // -0 and 0 are one score
	d.end()
}

// Value tells the digest of all that a key holds.
func (d *Digest) Value(key string, v Value) {
	switch v.Kind {
	case StringValue:
		d.String(key, v.Bytes)
	case StrangeValue:
		d.begin('?', key)
		d.part(string(v.Bytes))
		d.end()
	case HashValue:
		for field, value := range v.Hash {
			d.Field(key, field, value)
		}
	case SortedValue:
		for member, score := range v.Sorted {
			d.Member(key, member, score)
		}
	}
}

// Count returns how many things were told.
func (d *Digest) Count() uint64 { return d.count }

// PartDigest is the digest of a part of a model, and of how many things.
type PartDigest struct {
	Part, Digest string
	Count        uint64
}

// Sum returns the digest in hexadecimal.
func (d *Digest) Sum() string {
	var b [40]byte
	for i, lane := range d.lanes {
		binary.BigEndian.PutUint64(b[8*i:], lane)
	}
	binary.BigEndian.PutUint64(b[32:], d.count)
	sum := sha256.Sum256(b[:])
	return hex.EncodeToString(sum[:])
}

func (d *Digest) begin(kind byte, key string) {
	d.buf = append(d.buf[:0], kind)
	d.part(key)
}

func (d *Digest) part(s string) {
	d.buf = append(binary.AppendUvarint(d.buf, uint64(len(s))), s...)
}

func (d *Digest) end() {
	sum := sha256.Sum256(d.buf)
	for i := range d.lanes {
		d.lanes[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
	d.count++
}

// Kind says what a key of a model holds.
type Kind uint8

// The kinds of values.
const (
	NoValue     Kind = iota // the key is absent
	StringValue             // Keys.Set
	HashValue               // Keys.HashSet and HashAdd
	SortedValue             // Keys.SortedAdd
	// StrangeValue is what no projection writes: somebody else did. Value.Bytes names it.
	StrangeValue
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case NoValue:
		return "nothing"
	case StringValue:
		return "a string"
	case HashValue:
		return "a hash"
	case SortedValue:
		return "a sorted set"
	}
	return "something unknown"
}

// Value is what one key of a model holds; of the three contents only that of its kind is set.
type Value struct {
	Kind   Kind
	Bytes  []byte
	Hash   map[string]string
	Sorted map[string]float64
}

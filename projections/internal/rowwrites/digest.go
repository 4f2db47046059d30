package rowwrites

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Sum is an order-independent sum over rows: the SHA-256 of each, with the name of its table, added up in four 64-bit
// lanes, and their count. Sums of two parts of a model add up to the sum of the whole. The zero value is that of no rows.
type Sum struct {
	Lanes [4]uint64
	Count uint64
}

// Hasher takes sums of rows of one table. It is used by one goroutine.
type Hasher struct {
	prefix int
	buf    []byte
}

// NewHasher returns a hasher for the rows of a table.
func NewHasher(table string) *Hasher {
	h := &Hasher{buf: appendText(nil, table)}
	h.prefix = len(h.buf)
	return h
}

// Add adds an encoded row to a sum.
func (h *Hasher) Add(to *Sum, row []byte) {
	h.buf = append(h.buf[:h.prefix], row...)
	sum := sha256.Sum256(h.buf)
	for i := range to.Lanes {
		to.Lanes[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
	to.Count++
}

// Plus adds another sum.
func (s *Sum) Plus(other Sum) {
	for i := range s.Lanes {
		s.Lanes[i] += other.Lanes[i]
	}
	s.Count += other.Count
}

// String returns the digest that the sum stands for, in hexadecimal.
func (s Sum) String() string {
	var b [40]byte
	for i, lane := range s.Lanes {
		binary.BigEndian.PutUint64(b[8*i:], lane)
	}
	binary.BigEndian.PutUint64(b[32:], s.Count)
	sum := sha256.Sum256(b[:])
	return hex.EncodeToString(sum[:])
}

// Each calls yield with each row, encoded, and its position, until yield returns false.
func (t *Table) Each(yield func(row []byte, position uint64) bool) error {
	r := NewReader(t.Data)
	for range t.Rows {
		before := r.b
		position, _ := r.Next().Uint()
		for n := 1; n < t.Columns && r.err == nil; n++ {
			r.Next()
		}
		if r.err != nil {
			return r.err
		}
		if !yield(before[:len(before)-len(r.b)], position) {
			return nil
		}
	}
	if len(r.b) != 0 {
		return errDamaged
	}
	return nil
}

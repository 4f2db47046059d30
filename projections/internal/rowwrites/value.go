package rowwrites

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// The kinds of encoded values.
const (
	kindNull    = 0
	kindInt     = 1 // zigzag varint
	kindBigUint = 2 // uvarint, beyond the largest int64
	kindString  = 3 // length, bytes
	kindTime    = 4 // seconds since 1970 as zigzag varint, nanoseconds as uvarint
	kindFloat   = 5 // 8 bytes, big endian
	kindStrings = 6 // count, then length and bytes of each
)

// AppendValue appends a value: nil, bool, an integer, a float, a string, bytes, a time.Time, or a []string. Exact decimals
// are strings without exponent and without trailing zeros. A bool is 0 or 1, bytes are a string, a float32 is a float64.
func AppendValue(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, kindNull), nil
	case string:
		return appendText(append(dst, kindString), v), nil
	case []byte:
		return appendText(append(dst, kindString), string(v)), nil
	case int64:
		return AppendInt(dst, v), nil
	case int:
		return AppendInt(dst, int64(v)), nil
	case int32:
		return AppendInt(dst, int64(v)), nil
	case int16:
		return AppendInt(dst, int64(v)), nil
	case int8:
		return AppendInt(dst, int64(v)), nil
	case uint64:
		return AppendUint(dst, v), nil
	case uint:
		return AppendUint(dst, uint64(v)), nil
	case uint32:
		return AppendInt(dst, int64(v)), nil
	case uint16:
		return AppendInt(dst, int64(v)), nil
	case uint8:
		return AppendInt(dst, int64(v)), nil
	case bool:
		if v {
			return AppendInt(dst, 1), nil
		}
		return AppendInt(dst, 0), nil
	case time.Time:
		return AppendTime(dst, v.Unix(), int64(v.Nanosecond())), nil
	case float64:
		return appendFloat(dst, v), nil
	case float32:
		return appendFloat(dst, float64(v)), nil
	case []string:
		dst = binary.AppendUvarint(append(dst, kindStrings), uint64(len(v)))
		for _, s := range v {
			dst = appendText(dst, s)
		}
		return dst, nil
	}
	return dst, fmt.Errorf("a value of type %T cannot be kept in a table", value)
}

// AppendInt appends an integer.
func AppendInt(dst []byte, v int64) []byte {
	return binary.AppendVarint(append(dst, kindInt), v)
}

// AppendUint appends an integer.
func AppendUint(dst []byte, v uint64) []byte {
	if v <= math.MaxInt64 {
		return AppendInt(dst, int64(v))
	}
	return binary.AppendUvarint(append(dst, kindBigUint), v)
}

// AppendTime appends a time, given in seconds and nanoseconds since 1970.
func AppendTime(dst []byte, seconds, nanos int64) []byte {
	return binary.AppendUvarint(binary.AppendVarint(append(dst, kindTime), seconds), uint64(nanos))
}

func appendFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, kindFloat), math.Float64bits(v+0)) // -0 and 0 are one number
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// errDamaged ends the reading of bytes that AppendValue did not write.
var errDamaged = errors.New("encoded rows are damaged")

// Reader reads values that AppendValue wrote.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a reader of encoded values. Strings that it returns are copies.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns what was wrong, if something was; the values that came after it are empty.
func (r *Reader) Err() error { return r.err }

// Done reports whether nothing is left to read.
func (r *Reader) Done() bool { return len(r.b) == 0 || r.err != nil }

// Left returns the number of bytes that are not read yet.
func (r *Reader) Left() int { return len(r.b) }

// Value is one value; what it holds depends on its kind.
type Value struct {
	kind  byte
	num   int64
	nanos int64
	text  []byte // of the reader's bytes
	list  []string
}

// Next returns the next value.
func (r *Reader) Next() Value {
	var v Value
	if len(r.b) == 0 {
		r.err = errDamaged
	}
	if r.err != nil {
		return v
	}
	v.kind = r.b[0]
	r.b = r.b[1:]
	switch v.kind {
	case kindNull:
	case kindInt:
		v.num = r.varint()
	case kindBigUint:
		v.num = int64(r.uvarint())
	case kindString:
		v.text = r.text()
	case kindTime:
		v.num, v.nanos = r.varint(), int64(r.uvarint())
	case kindFloat:
		if len(r.b) < 8 {
			r.err = errDamaged
			return Value{}
		}
		v.num = int64(binary.BigEndian.Uint64(r.b))
		r.b = r.b[8:]
	case kindStrings:
		n := r.uvarint()
		if n > uint64(len(r.b)) {
			r.err = errDamaged
			return Value{}
		}
		v.list = make([]string, 0, n)
		for range n {
			v.list = append(v.list, string(r.text()))
		}
	default:
		r.err = errDamaged
	}
	return v
}

func (r *Reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return int64(r.took(uint64(v), n))
}

func (r *Reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return r.took(v, n)
}

func (r *Reader) took(v uint64, n int) uint64 {
	if n <= 0 {
		r.err, r.b = errDamaged, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *Reader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.err, r.b = errDamaged, nil
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// Any returns the value as nil, int64, uint64 (beyond int64), string, time.Time in UTC, float64 or []string.
func (v Value) Any() any {
	switch v.kind {
	case kindInt:
		return v.num
	case kindBigUint:
		return uint64(v.num)
	case kindString:
		return string(v.text)
	case kindTime:
		return time.Unix(v.num, v.nanos).UTC()
	case kindFloat:
		return math.Float64frombits(uint64(v.num))
	case kindStrings:
		return v.list
	}
	return nil
}

// Int returns an integer; ok is false for another kind, and for one beyond int64.
func (v Value) Int() (n int64, ok bool) { return v.num, v.kind == kindInt }

// Uint returns an integer that is not negative.
func (v Value) Uint() (n uint64, ok bool) {
	return uint64(v.num), v.kind == kindBigUint || v.kind == kindInt && v.num >= 0
}

// Text returns a string, which shares memory with what the reader reads.
func (v Value) Text() (s []byte, ok bool) { return v.text, v.kind == kindString }

// Time returns a time in UTC.
func (v Value) Time() (t time.Time, ok bool) {
	return time.Unix(v.num, v.nanos).UTC(), v.kind == kindTime
}

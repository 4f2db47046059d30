package eventstore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tributary-es/tributary/internal/hlc"
)

// The canonical encoding of an event has two parts, so that the caller does the costly one before the sequencer's turn:
//
//	frame  = header ‖ content ‖ CRC-32C of both (big-endian)
//	header = what the sequencer gives: version, dot, batch, HLC, stream version, cell, epoch, length of content
//	content = what the caller knows: names, ids, metadata, context, payload
//
// Integers of the header are big-endian and of fixed size; lengths and numbers of the content are uvarints. Everything
// that leaves the store can reproduce a frame byte for byte, which frame_test.go keeps with golden files.
const frameVersion = 1

// fixed part of the header after the site's name.
const headerFixed = 4 + 2 + 8 + 8 + 8 + 8 + 4 + 2 + 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendContent appends the content part of r's frame to dst.
func AppendContent(dst []byte, r *Recorded) []byte {
	dst = append(dst, byte(r.Kind), byte(r.Encoding))
	dst = binary.BigEndian.AppendUint16(dst, r.SchemaVersion)
	dst = append(dst, r.Event.ID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, r.KeyRef)
	dst = append(dst, r.RequestHash[:]...)
	for _, s := range [...]string{
		r.Stream.Tenant, r.Stream.Category, r.Stream.ID, r.Type, r.CommandID,
		r.Causation, r.Correlation, r.TraceParent, r.TraceState, r.Actor,
	} {
		dst = appendString(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Tags)))
	for _, t := range r.Tags {
		dst = appendString(dst, t)
	}
	dst = appendVector(dst, r.Context)
	dst = appendVector(dst, r.Dep)
	dst = binary.AppendUvarint(dst, uint64(len(r.Payload)))
	return append(dst, r.Payload...)
}

// ContentHash hashes the content part of a frame, as the chain takes it.
func ContentHash(content []byte) Hash { return sha256.Sum256(content) }

// AppendFrame appends the frame of r to dst, given r's content part.
func AppendFrame(dst []byte, r *Recorded, content []byte) []byte {
	start := len(dst)
	dst = append(dst, frameVersion, byte(len(r.Dot.Log.Site)))
	dst = append(dst, r.Dot.Log.Site...)
	dst = binary.BigEndian.AppendUint32(dst, r.Dot.Log.Incarnation)
	dst = binary.BigEndian.AppendUint16(dst, r.Dot.Log.Shard)
	dst = binary.BigEndian.AppendUint64(dst, r.Dot.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.HLC))
	dst = binary.BigEndian.AppendUint64(dst, r.Version)
	dst = binary.BigEndian.AppendUint64(dst, r.Batch.FirstSeq)
	dst = binary.BigEndian.AppendUint32(dst, r.Batch.Count)
	dst = binary.BigEndian.AppendUint16(dst, r.Cell)
	dst = binary.BigEndian.AppendUint32(dst, r.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(content)))
	dst = append(dst, content...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeFrame decodes the frame at the start of b and returns it with what follows. Position and Chain are not part of a
// frame. The payload shares b's memory; nothing else does. Errors match ErrCorrupt.
func DecodeFrame(b []byte) (r Recorded, rest []byte, err error) {
	rest, err = DecodeFrameInto(&r, b)
	if err != nil {
		return Recorded{}, nil, err
	}
	return r, rest, nil
}

// DecodeFrameInto is DecodeFrame for those who decode many: it sets *r, which is large to copy. After an error *r is of no
// use.
func DecodeFrameInto(r *Recorded, b []byte) (rest []byte, err error) {
	*r = Recorded{}
	content, rest, err := decodeHeader(b, r)
	if err != nil {
		return nil, err
	}
	if err := decodeContent(content, r); err != nil {
		return nil, err
	}
	return rest, nil
}

// FrameContent checks the frame at the start of b and returns its content part with what follows.
func FrameContent(b []byte) (content, rest []byte, err error) {
	var r Recorded
	return decodeHeader(b, &r)
}

func decodeHeader(b []byte, r *Recorded) (content, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, corruptf("frame of %d bytes", len(b))
	}
	if b[0] != frameVersion {
		return nil, nil, corruptf("frame version %d, this program knows %d", b[0], frameVersion)
	}
	site := int(b[1])
	head := 2 + site + headerFixed
	if len(b) < head {
		return nil, nil, corruptf("frame header cut short at %d bytes", len(b))
	}
	size := int(binary.BigEndian.Uint32(b[head-4:]))
	if len(b) < head+size+4 || size < 0 {
		return nil, nil, corruptf("frame of %d bytes cut short at %d", head+size+4, len(b))
	}
	end := head + size
	if got, want := crc32.Checksum(b[:end], castagnoli), binary.BigEndian.Uint32(b[end:]); got != want {
		return nil, nil, corruptf("frame checksum is %08x, should be %08x", got, want)
	}
	h := b[2+site:]
	r.Dot = Dot{
		Log: LogID{Site: intern(b[2 : 2+site]), Incarnation: binary.BigEndian.Uint32(h), Shard: binary.BigEndian.Uint16(h[4:])},
		Seq: binary.BigEndian.Uint64(h[6:]),
	}
	r.HLC = hlc.Timestamp(binary.BigEndian.Uint64(h[14:]))
	r.Version = binary.BigEndian.Uint64(h[22:])
	r.Batch = Batch{FirstSeq: binary.BigEndian.Uint64(h[30:]), Count: binary.BigEndian.Uint32(h[38:])}
	r.Cell = binary.BigEndian.Uint16(h[42:])
	r.Epoch = binary.BigEndian.Uint32(h[44:])
	return b[head:end], b[end+4:], nil
}

// decodeContent copies the part before the payload into one string and cuts all names out of it, so that keeping a name
// does not keep a whole block of the log in memory.
func decodeContent(b []byte, r *Recorded) error {
	const fixed = 1 + 1 + 2 + 16 + 4 + 32
	if len(b) < fixed {
		return corruptf("frame content of %d bytes", len(b))
	}
	r.Kind, r.Encoding = Kind(b[0]), Encoding(b[1])
	r.SchemaVersion = binary.BigEndian.Uint16(b[2:])
	copy(r.Event.ID[:], b[4:])
	r.KeyRef = binary.BigEndian.Uint32(b[20:])
	copy(r.RequestHash[:], b[24:])

	d := decoder{b: b, off: fixed}
	var spans [10]span
	for i := range spans {
		spans[i] = d.span()
	}
	tags := make([]span, d.count(1))
	for i := range tags {
		tags[i] = d.span()
	}
	r.Context = d.vector()
	r.Dep = d.vector()
	meta := d.off
	payload := d.span()
	if d.err != nil {
		return d.err
	}
	if payload.end != len(b) {
		return corruptf("%d bytes after the payload", len(b)-payload.end)
	}
	s := string(b[fixed:meta])
	cut := func(p span) string { return s[p.start-fixed : p.end-fixed] }
	r.Stream = StreamID{Tenant: intern(b[spans[0].start:spans[0].end]), Category: intern(b[spans[1].start:spans[1].end]), ID: cut(spans[2])}
	r.Type = intern(b[spans[3].start:spans[3].end])
	r.CommandID, r.Causation, r.Correlation = cut(spans[4]), cut(spans[5]), cut(spans[6])
	r.TraceParent, r.TraceState, r.Actor = cut(spans[7]), cut(spans[8]), cut(spans[9])
	if len(tags) > 0 {
		r.Tags = make([]string, len(tags))
		for i, t := range tags {
			r.Tags[i] = cut(t)
		}
	}
	if payload.start < payload.end {
		r.Payload = b[payload.start:payload.end:payload.end]
	}
	return nil
}

type span struct{ start, end int }

// decoder reads uvarints and length-prefixed pieces; after the first fault everything it returns is empty.
type decoder struct {
	b   []byte
	off int
	err error
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.off:])
	if n <= 0 {
		d.err = corruptf("bad number at byte %d of the content", d.off)
		return 0
	}
	d.off += n
	return v
}

// count reads a number of things that take at least size bytes each, so that a bad count cannot ask for much memory.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if d.err == nil && n > uint64(len(d.b)-d.off)/uint64(size) {
		d.err = corruptf("count %d at byte %d is beyond the content", n, d.off)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) span() span {
	// Most pieces are short: their length is one byte.
	if d.err == nil && d.off < len(d.b) && d.b[d.off] < 0x80 {
		start, end := d.off+1, d.off+1+int(d.b[d.off])
		if end <= len(d.b) {
			d.off = end
			return span{start, end}
		}
	}
	n := d.count(1)
	s := span{d.off, d.off + n}
	d.off += n
	return s
}

func (d *decoder) vector() Vector {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	v := make(Vector, n)
	for i := range v {
		s := d.span()
		v[i].Log = LogID{Site: intern(d.b[s.start:s.end]), Incarnation: uint32(d.uvarint()), Shard: uint16(d.uvarint())}
		v[i].Seq = d.uvarint()
	}
	return v
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendVector(dst []byte, v Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for _, d := range v {
		dst = appendString(dst, d.Log.Site)
		dst = binary.AppendUvarint(dst, uint64(d.Log.Incarnation))
		dst = binary.AppendUvarint(dst, uint64(d.Log.Shard))
		dst = binary.AppendUvarint(dst, d.Seq)
	}
	return dst
}

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

package eventstore

import (
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/tributary-es/tributary/internal/hlc"
)

// DecodeFrame decodes the frame at the start of b and returns it with what follows. Position and Chain are not part of a
// frame. The payload shares b's memory; nothing else does. Errors match ErrCorrupt.
func DecodeFrame(b []byte) (r Recorded, rest []byte, err error) {
	rest, err = DecodeFrameInto(&r, b)
	if err != nil {
		return Recorded{}, nil, err
	}
	return r, rest, nil
}

// DecodeFrameInto is DecodeFrame for those who have room already: it sets *r, which is large to copy. After an error *r is
// of no use.
func DecodeFrameInto(r *Recorded, b []byte) (rest []byte, err error) {
	var d FrameDecoder
	return d.Decode(r, b)
}

// FrameContent checks the frame at the start of b and returns its content part with what follows.
func FrameContent(b []byte) (content, rest []byte, err error) {
	head, end, err := checkFrame(b)
	if err != nil {
		return nil, nil, err
	}
	return b[head:end], b[end+4:], nil
}

// FrameLength returns how many bytes the frame at the start of b has, by its header; all of b where that is no frame's.
func FrameLength(b []byte) int {
	if len(b) < 2 {
		return len(b)
	}
	head := 2 + int(b[1]) + headerFixed
	if len(b) < head {
		return len(b)
	}
	return int(min(uint64(len(b)), uint64(head)+uint64(binary.BigEndian.Uint32(b[head-4:]))+4))
}

// FrameDecoder decodes frames one after the other, for those who decode many: an event has its names in common with the
// event before it where they are the same, and other names stand in memory that some events share. The zero value is good.
// It is used by one goroutine; what it has decoded stays as it is, and keeps no more than a few kilobytes of other events'
// names alive.
type FrameDecoder struct {
	site  string
	last  [namesOfFrame]string
	names strings.Builder // names are cut from what it has, and what it has never changes
	tags  []string        // the room that is left
}

// The names of a content, in order.
const (
	nameTenant = iota
	nameCategory
	nameID
	nameType
	nameCommand
	nameCausation
	nameCorrelation
	nameTraceParent
	nameTraceState
	nameActor
	namesOfFrame
)

// The memory that events share grows with their number: in bytes of names, and in tags.
const (
	leastNames, mostNames = 64, 4 << 10
	mostTags              = 128
)

// Decode is DecodeFrameInto.
func (d *FrameDecoder) Decode(r *Recorded, b []byte) (rest []byte, err error) {
	head, end, err := checkFrame(b)
	if err != nil {
		return nil, err
	}
	*r = Recorded{}
	d.header(r, b)
	if err := d.content(r, b[head:end]); err != nil {
		return nil, err
	}
	return b[end+4:], nil
}

// checkFrame returns where the content of the frame at the start of b is.
func checkFrame(b []byte) (head, end int, err error) {
	if len(b) < 2 {
		return 0, 0, corruptf("frame of %d bytes", len(b))
	}
	if b[0] != frameVersion {
		return 0, 0, corruptf("frame version %d, this program knows %d", b[0], frameVersion)
	}
	head = 2 + int(b[1]) + headerFixed
	if len(b) < head {
		return 0, 0, corruptf("frame header cut short at %d bytes", len(b))
	}
	size := int(binary.BigEndian.Uint32(b[head-4:]))
	if len(b) < head+size+4 || size < 0 {
		return 0, 0, corruptf("frame of %d bytes cut short at %d", head+size+4, len(b))
	}
	end = head + size
	if got, want := crc32.Checksum(b[:end], castagnoli), binary.BigEndian.Uint32(b[end:]); got != want {
		return 0, 0, corruptf("frame checksum is %08x, should be %08x", got, want)
	}
	return head, end, nil
}

// header reads what stands before the content. REQUIRES: the frame was checked.
func (d *FrameDecoder) header(r *Recorded, b []byte) {
	site := int(b[1])
	if string(b[2:2+site]) != d.site {
		d.site = intern(b[2 : 2+site])
	}
	h := b[2+site : 2+site+headerFixed]
	r.Dot = Dot{
		Log: LogID{Site: d.site, Incarnation: binary.BigEndian.Uint32(h), Shard: binary.BigEndian.Uint16(h[4:])},
		Seq: binary.BigEndian.Uint64(h[6:]),
	}
	r.HLC = hlc.Timestamp(binary.BigEndian.Uint64(h[14:]))
	r.Version = binary.BigEndian.Uint64(h[22:])
	r.Batch = Batch{FirstSeq: binary.BigEndian.Uint64(h[30:]), Count: binary.BigEndian.Uint32(h[38:])}
	r.Cell = binary.BigEndian.Uint16(h[42:])
	r.Epoch = binary.BigEndian.Uint32(h[44:])
}

// contentFixed is what stands before the names.
const contentFixed = 1 + 1 + 2 + 16 + 4 + 32

func (d *FrameDecoder) content(r *Recorded, b []byte) error {
	if len(b) < contentFixed {
		return corruptf("frame content of %d bytes", len(b))
	}
	r.Kind, r.Encoding = Kind(b[0]), Encoding(b[1])
	r.SchemaVersion = binary.BigEndian.Uint16(b[2:])
	copy(r.Event.ID[:], b[4:])
	r.KeyRef = binary.BigEndian.Uint32(b[20:])
	copy(r.RequestHash[:], b[24:])

	c := contentReader{b: b, off: contentFixed}
	for i := range d.last {
		name := c.piece()
		if string(name) == d.last[i] {
			continue
		}
		switch i {
		case nameTenant, nameCategory, nameType:
			d.last[i] = intern(name)
		default:
			d.last[i] = d.keep(name)
		}
	}
	r.Stream = StreamID{Tenant: d.last[nameTenant], Category: d.last[nameCategory], ID: d.last[nameID]}
	r.Type, r.CommandID = d.last[nameType], d.last[nameCommand]
	r.Causation, r.Correlation = d.last[nameCausation], d.last[nameCorrelation]
	r.TraceParent, r.TraceState, r.Actor = d.last[nameTraceParent], d.last[nameTraceState], d.last[nameActor]
	if n := c.count(1); n > 0 {
		r.Tags = d.roomForTags(n)
		for i := range r.Tags {
			r.Tags[i] = d.keep(c.piece())
		}
	}
	r.Context = c.vector()
	r.Dep = c.vector()
	payload := c.piece()
	if c.err != nil {
		return c.err
	}
	if c.off != len(b) {
		return corruptf("%d bytes after the payload", len(b)-c.off)
	}
	if len(payload) > 0 {
		r.Payload = payload
	}
	return nil
}

// keep returns a copy of a name.
func (d *FrameDecoder) keep(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	if room := d.names.Cap(); room-d.names.Len() < len(name) {
		d.names = strings.Builder{}
		d.names.Grow(max(len(name), min(max(leastNames, 2*room), mostNames)))
	}
	start := d.names.Len()
	d.names.Write(name)
	return d.names.String()[start:]
}

// roomForTags returns room for an event's tags: the first gets no more than it needs.
func (d *FrameDecoder) roomForTags(n int) []string {
	if len(d.tags) < n {
		room := n
		if d.tags != nil {
			room = max(n, mostTags)
		}
		d.tags = make([]string, room)
	}
	tags := d.tags[:n:n]
	d.tags = d.tags[n:]
	return tags
}

// contentReader reads uvarints and length-prefixed pieces; after the first fault everything it returns is empty.
type contentReader struct {
	b   []byte
	off int
	err error
}

func (c *contentReader) uvarint() uint64 {
	if c.err != nil {
		return 0
	}
	v, n := binary.Uvarint(c.b[c.off:])
	if n <= 0 {
		c.err = corruptf("bad number at byte %d of the content", c.off)
		return 0
	}
	c.off += n
	return v
}

// count reads a number of things that take at least size bytes each, so that a bad count cannot ask for much memory.
func (c *contentReader) count(size int) int {
	n := c.uvarint()
	if c.err == nil && n > uint64(len(c.b)-c.off)/uint64(size) {
		c.err = corruptf("count %d at byte %d is beyond the content", n, c.off)
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

func (c *contentReader) piece() []byte {
	// Most pieces are short: their length is one byte.
	if c.err == nil && c.off < len(c.b) && c.b[c.off] < 0x80 {
		start, end := c.off+1, c.off+1+int(c.b[c.off])
		if end <= len(c.b) {
			c.off = end
			return c.b[start:end:end]
		}
	}
	n := c.count(1)
	start := c.off
	c.off += n
	return c.b[start:c.off:c.off]
}

func (c *contentReader) vector() Vector {
	n := c.count(4)
	if n == 0 {
		return nil
	}
	v := make(Vector, n)
	for i := range v {
		site := c.piece()
		v[i].Log = LogID{Site: intern(site), Incarnation: uint32(c.uvarint()), Shard: uint16(c.uvarint())}
		v[i].Seq = c.uvarint()
	}
	return v
}

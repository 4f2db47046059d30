package wire

import (
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// leastFrame is less than any frame has bytes: a message cannot make its reader take room for many more events than it has.
const leastFrame = 64

// DecodeFrames appends the events of a message to dst. Payloads share the message's memory. Errors match
// eventstore.ErrCorrupt.
func DecodeFrames(dst []eventstore.Recorded, m *storev1.Frames) ([]eventstore.Recorded, error) {
	var d FrameReader
	if err := d.Reset(m); err != nil {
		return dst, err
	}
	dst = slices.Grow(dst, min(len(m.GetLsns()), len(m.GetFrames())/leastFrame))
	for range m.GetLsns() {
		dst = append(dst, eventstore.Recorded{})
		if _, err := d.Next(&dst[len(dst)-1]); err != nil {
			return dst[:len(dst)-1], err
		}
	}
	return dst, d.end()
}

// FrameReader reads the events of messages one after the other, for those who do not need all of them at a time. The zero
// value has none.
type FrameReader struct {
	decoder  eventstore.FrameDecoder
	m        *storev1.Frames
	read     int // events of m
	rest     []byte
	chains   []byte
	revising []uint64 // still to come, in order
}

// Reset has the events of a message read next. Errors match eventstore.ErrCorrupt.
func (r *FrameReader) Reset(m *storev1.Frames) error {
	r.m, r.read, r.rest, r.chains, r.revising = m, 0, m.GetFrames(), m.GetChains(), m.GetRevising()
	count := len(m.GetLsns())
	if len(r.chains) > 0 && len(r.chains) != count*len(eventstore.Hash{}) {
		return fmt.Errorf("frames: %w: %d bytes of hash chain for %d events", eventstore.ErrCorrupt, len(r.chains), count)
	}
	if !slices.IsSorted(r.revising) {
		r.revising = slices.Sorted(slices.Values(r.revising))
	}
	if n := len(r.revising); n > 0 && r.revising[n-1] >= uint64(count) {
		return fmt.Errorf("frames: %w: event %d of %d revises", eventstore.ErrCorrupt, r.revising[n-1], count)
	}
	return nil
}

// Next sets *e to the next event of the message, whose payload shares the message's memory; there is no more after the last, and
// after an error, which matches eventstore.ErrCorrupt.
func (r *FrameReader) Next(e *eventstore.Recorded) (more bool, err error) {
	lsns := r.m.GetLsns()
	if r.read == len(lsns) {
		return false, r.end()
	}
	lsn := lsns[r.read]
	if r.rest, err = r.decoder.Decode(e, r.rest); err != nil {
		return false, fmt.Errorf("frame at lsn %d: %w", lsn, err)
	}
	e.Position = eventstore.Position{Incarnation: r.m.GetIncarnation(), LSN: lsn}
	if len(r.chains) > 0 {
		r.chains = r.chains[copy(e.Chain[:], r.chains):]
	}
	for len(r.revising) > 0 && r.revising[0] == uint64(r.read) {
		e.Revises, r.revising = true, r.revising[1:]
	}
	r.read++
	return true, nil
}

// end returns what is wrong behind the last event.
func (r *FrameReader) end() error {
	if len(r.rest) > 0 {
		return fmt.Errorf("frames: %w: %d bytes after the last of %d", eventstore.ErrCorrupt, len(r.rest), r.read)
	}
	return nil
}

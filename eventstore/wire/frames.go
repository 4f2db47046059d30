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
	rest, chains := m.GetFrames(), m.GetChains()
	if n := len(m.GetLsns()); len(chains) > 0 && len(chains) != n*len(eventstore.Hash{}) {
		return dst, fmt.Errorf("frames: %w: %d bytes of hash chain for %d events", eventstore.ErrCorrupt, len(chains), n)
	}
	for _, i := range m.GetRevising() {
		if i >= uint64(len(m.GetLsns())) {
			return dst, fmt.Errorf("frames: %w: event %d of %d revises", eventstore.ErrCorrupt, i, len(m.GetLsns()))
		}
	}
	var d eventstore.FrameDecoder
	before := len(dst)
	dst = slices.Grow(dst, min(len(m.GetLsns()), len(rest)/leastFrame))
	for _, lsn := range m.GetLsns() {
		dst = append(dst, eventstore.Recorded{})
		e := &dst[len(dst)-1]
		var err error
		if rest, err = d.Decode(e, rest); err != nil {
			return dst[:len(dst)-1], fmt.Errorf("frame at lsn %d: %w", lsn, err)
		}
		e.Position = eventstore.Position{Incarnation: m.GetIncarnation(), LSN: lsn}
		if len(chains) > 0 {
			chains = chains[copy(e.Chain[:], chains):]
		}
	}
	for _, i := range m.GetRevising() {
		dst[before+int(i)].Revises = true
	}
	if len(rest) > 0 {
		return dst, fmt.Errorf("frames: %w: %d bytes after the last of %d", eventstore.ErrCorrupt, len(rest), len(m.GetLsns()))
	}
	return dst, nil
}

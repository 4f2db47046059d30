package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"

	"github.com/tributary-es/tributary/eventstore"
)

// piece returns frames in parts of about so many bytes each, and their events.
func piece(random *rand.Rand, parts, size int) (f eventstore.Frames, events []eventstore.Recorded) {
	f.First = eventstore.Position{Incarnation: 1, LSN: 7}
	for range parts {
		e := recorded(random)
		e.Payload, e.Chain, e.Revises = bytes.Repeat([]byte{byte(random.Uint32())}, size), eventstore.Hash{}, false
		e.Position = eventstore.Position{Incarnation: 1, LSN: f.First.LSN + uint64(f.Count)}
		f.Parts = append(f.Parts, eventstore.AppendFrame(nil, e, eventstore.AppendContent(nil, e)))
		f.Count++
		events = append(events, *e)
	}
	return f, events
}

// Frames are released once, as soon as nothing of their message is needed any more, and not before: until then it says what
// they are.
func TestFramesAreReleasedWhenTheyWereSent(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for name, sizes := range map[string][]int{"long": {9000, 9000, 9000}, "short": {100, 10, 100}, "mixed": {30_000, 10, 500, 9000}} {
		released := 0
		f, _ := piece(random, 0, 0)
		var want []eventstore.Recorded
		for _, size := range sizes {
			part, events := piece(random, 1, size)
			events[0].Position.LSN += uint64(f.Count)
			f.Parts, f.Count, want = append(f.Parts, part.Parts...), f.Count+1, append(want, events...)
		}
		parts := f.Parts
		f.Release = func() {
			released++
			for _, part := range parts { // the store uses the memory again
				clear(part)
			}
		}
		buffers := EncodeFrames(&f).Buffers()
		message := &LentResponse{}
		if err := NewCodec().Unmarshal(buffers, message); err != nil {
			t.Fatal(err)
		}
		got, err := DecodeFrames(nil, message.GetFrames())
		if err != nil {
			t.Fatalf("%s parts: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s parts (-want +got):\n%s", name, diff)
		}
		for i, b := range buffers {
			if released > 0 && name != "short" { // those were put together
				t.Errorf("%s parts were released when %d of %d buffers were sent", name, i, len(buffers))
			}
			b.Free()
		}
		if released != 1 {
			t.Errorf("%s parts were released %d times, want once", name, released)
		}
	}
}

// An answer that is lent takes the memory of the one before it, whether it is longer or shorter.
func TestLentAnswersShareMemory(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	codec, message, places := NewCodec(), &LentResponse{}, map[*byte]bool{}
	for _, size := range []int{20_000, 10_000, 20_000, 0, 20_000} {
		f, want := piece(random, 3, size)
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(EncodeFrames(&f).Buffers().Materialize())}, message); err != nil {
			t.Fatal(err)
		}
		got, err := DecodeFrames(nil, message.GetFrames())
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if len(want[i].Payload) == 0 {
				want[i].Payload = nil
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events of %d bytes (-want +got):\n%s", size, diff)
		}
		places[&message.memory[0]] = true
	}
	if len(places) != 1 {
		t.Errorf("five answers were read into %d places, want one", len(places))
	}
}

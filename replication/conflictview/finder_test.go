package conflictview

import (
	"fmt"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// A finder holds the streams that were looked at last, as far as its bound goes, and none with what may be erased.
func TestFinderHolds(t *testing.T) {
	f := finder{}
	stream := func(name string, events int, keyRef uint32) *stream {
		s := newStream(&f.Options, eventstore.Stream("note", name))
		for i := range events {
			e := eventstore.Recorded{Stream: s.id, Dot: eventstore.Dot{Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Seq: uint64(i + 1)}}
			e.KeyRef = keyRef
			s.insert(&e)
		}
		return s
	}
	f.put(stream("personal", 3, 7))
	if s := f.take(eventstore.Stream("note", "personal")); s != nil {
		t.Error("a stream is held that has what may be erased")
	}
	const size = 900
	streams := 2 * heldEvents / size
	for i := range streams {
		f.put(stream(fmt.Sprint(i), size, 0))
	}
	if f.weight > heldEvents || f.weight < heldEvents/2 {
		t.Errorf("streams of %d events are held, the bound is %d", f.weight, heldEvents)
	}
	if s := f.take(eventstore.Stream("note", "0")); s != nil {
		t.Error("the stream that was looked at first is held still")
	}
	if s := f.take(eventstore.Stream("note", fmt.Sprint(streams-1))); s == nil || len(s.events) != size {
		t.Error("the stream that was looked at last is not held")
	}
	for f.recent.Len() > 0 {
		f.drop(f.recent.Back())
	}
	s := stream("in conflict", 10, 0)
	s.records = 9
	if f.put(s); f.weight != 10+9*recordEvents {
		t.Errorf("a stream of 10 events with 9 records counts as %d events", f.weight)
	}
	f.take(s.id)
	if f.weight != 0 || len(f.held) != 0 {
		t.Errorf("when nothing is held %d is counted, in %d streams", f.weight, len(f.held))
	}
}

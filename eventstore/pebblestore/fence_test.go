package pebblestore

import (
	"errors"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// What the fence refuses leaves nothing, a request that was accepted before is answered all the same, and epochs are recorded. R7.
func TestFence(t *testing.T) {
	epoch, here := uint32(7), true
	away := eventstore.Stream("payment", "away")
	s, err := Open(t.TempDir(), &Options{Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) {
		if cell != eventstore.CellOf(stream) {
			t.Errorf("asked about cell %d of %s", cell, stream)
		}
		if stream == away || !here {
			return 0, &eventstore.NotHomeError{Stream: stream, Cell: cell, Home: "shard-02@sh", Epoch: epoch}
		}
		return epoch, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := request("once", eventstore.Stream("payment", "1"), eventstore.NoStream, 2)
	mustAppend(t, s, first)
	two := request("", eventstore.Stream("payment", "2"), eventstore.NoStream, 1)
	two.Appends = append(two.Appends, request("", away, eventstore.NoStream, 1).Appends...)
	_, err = s.Append(t.Context(), two)
	var elsewhere *eventstore.NotHomeError
	if !errors.As(err, &elsewhere) || elsewhere.Stream != away || eventstore.ClassOf(err) != eventstore.Rejected {
		t.Errorf("a request of which one stream is written elsewhere: %v", err)
	}
	here = false
	if receipt, err := s.Append(t.Context(), request("once", eventstore.Stream("payment", "1"), eventstore.NoStream, 2)); err != nil || !receipt.Duplicate {
		t.Errorf("a repeated request: %+v, %v", receipt, err)
	}
	count := 0
	for e, err := range s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; e.Epoch != epoch {
			t.Errorf("%s has epoch %d, want %d", e.Dot, e.Epoch, epoch)
		}
	}
	if count != 2 {
		t.Errorf("the log has %d events, want those of the first request", count)
	}
}

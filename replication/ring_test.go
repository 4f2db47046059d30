package replication_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

func shards(t *testing.T, labels ...string) []replication.Shard {
	t.Helper()
	all := make([]replication.Shard, len(labels))
	for i, label := range labels {
		s, err := replication.ParseShard(label)
		if err != nil || s.String() != label {
			t.Fatalf("label %q reads as %v, %v", label, s, err)
		}
		all[i] = s
	}
	return all
}

func ring(t *testing.T, labels ...string) *replication.Ring {
	t.Helper()
	r, err := replication.NewRing(shards(t, labels...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A shard that comes or goes moves its own share of the cells, and no cell between two others.
func TestRingMovesOnlyItsShare(t *testing.T) {
	three := ring(t, "shard-01@bj", "shard-02@sh", "shard-03@sz")
	four, err := three.With(shards(t, "shard-04@gz")[0])
	if err != nil {
		t.Fatal(err)
	}
	two, err := three.Without("sh")
	if err != nil {
		t.Fatal(err)
	}
	share, moved, taken := map[string]int{}, 0, map[string]int{}
	for cell := range uint16(eventstore.Cells) {
		now := three.Of(cell)
		share[now.Region]++
		if after := four.Of(cell); after != now {
			moved++
			if after.Region != "gz" {
				t.Errorf("with gz added, cell %d moves from %s to %s", cell, now, after)
			}
		}
		switch after := two.Of(cell); {
		case now.Region == "sh":
			taken[after.Region]++
		case after != now:
			t.Errorf("with sh gone, cell %d moves from %s to %s", cell, now, after)
		}
	}
	for region, n := range share {
		if n < eventstore.Cells/3*3/4 || n > eventstore.Cells/3*5/4 {
			t.Errorf("%s has %d cells of %d, want about a third", region, n, eventstore.Cells)
		}
	}
	if moved < eventstore.Cells/8 || moved > eventstore.Cells*3/8 {
		t.Errorf("a fourth shard takes %d cells of %d, want about a quarter", moved, eventstore.Cells)
	}
	if taken["bj"] == 0 || taken["sz"] == 0 || taken["bj"]+taken["sz"] != share["sh"] {
		t.Errorf("of sh's %d cells bj and sz take %v, want all of them, by both", share["sh"], taken)
	}
}

// Whoever knows the same shards routes alike, whatever their order; a stream's key goes where its cell is.
func TestRingRoutes(t *testing.T) {
	r, other := ring(t, "shard-01@bj", "shard-02@sh"), ring(t, "shard-02@sh", "shard-01@bj")
	for i := range 1000 {
		stream := eventstore.Stream("order", fmt.Sprint(i))
		label := r.Route(stream.String())
		if label != other.Route(stream.String()) {
			t.Fatalf("%s is routed to %s and to %s", stream, label, other.Route(stream.String()))
		}
		if cell := eventstore.CellOf(stream); eventstore.CellOfKey(stream.String()) != cell || r.Of(cell).String() != label {
			t.Fatalf("%s is in cell %d of %s, and routed to %s", stream, cell, r.Of(cell), label)
		}
	}
	for _, label := range []string{"", "sh", "shard-02", "shard-02@", "shard-x@sh", "shard-99999@sh", "shard-02@SH"} {
		if s, err := replication.ParseShard(label); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("label %q reads as %v, %v", label, s, err)
		}
	}
	if _, err := replication.NewRing(); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a ring of nothing: %v", err)
	}
	if _, err := r.With(shards(t, "shard-01@bj")[0]); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a shard twice: %v", err)
	}
}

// The ring is part of what sites agree on: it may not change from one program to the next.
func TestRingIsWhatItWas(t *testing.T) {
	r := ring(t, "shard-01@bj", "shard-02@sh", "shard-03@sz")
	got := ""
	for _, key := range []string{"default/order/536365", "default/order/536366", "default/stock/85123A", "default/customer/17850", "a", ""} {
		got += r.Route(key) + " "
	}
	if want := "shard-02@sh shard-01@bj shard-01@bj shard-03@sz shard-03@sz shard-01@bj "; got != want {
		t.Errorf("keys are routed to %s, want %s", got, want)
	}
}

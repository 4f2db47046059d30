package replication

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// A site whose process stood still for longer than others wait for it writes nothing homed, though nothing has told it so yet; what it
// is no home of it says at once. R22.
func TestStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := homes(t, "bj", "sh")
		defer func() { _ = errors.Join(all[0].store.Close(), all[1].store.Close()) }()
		mine, theirs := all[0].streamOf(all[0]), all[0].streamOf(all[1])
		site := &Site{o: Options{Config: Config{Site: "bj"}.withDefaults()}, start: time.Now()}
		site.home.Store(&homeLease{until: site.o.lease()})
		all[0].fence.Watch(site.AtHome)
		if err := all[0].pay(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		time.Sleep(site.o.lease())
		if err := all[0].pay(t.Context(), mine); !errors.Is(err, ErrAway) || eventstore.ClassOf(err) != eventstore.Transient {
			t.Errorf("a home that stood still answers %v", err)
		}
		if err := all[0].pay(t.Context(), theirs); !errors.Is(err, eventstore.ErrNotHome) {
			t.Errorf("a stream of another site: %v", err)
		}
	})
}

// streamOf returns a stream that another one is the home of.
func (h *home) streamOf(other *home) eventstore.StreamID {
	for i := 0; ; i++ {
		stream := eventstore.Stream("payment", string(rune('a'+i)))
		if c, _ := h.fence.Cell(eventstore.CellOf(stream)); c.Home == other.shard {
			return stream
		}
	}
}

package inventory

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// A site that is alone, or cannot tell, forgets the codes that nobody has asked for, as one does that has others.
func TestRebalancerForgetsWhileAlone(t *testing.T) {
	now := time.UnixMilli(1)
	b := balance{
		Rebalancer: Rebalancer{
			Now:   func() time.Time { return now },
			Sites: func(context.Context) ([]string, error) { return []string{"bj"}, nil },
		},
		codes: map[eventstore.StreamID]*wanted{}, due: map[eventstore.StreamID]bool{},
	}
	for i := range 100 {
		b.note(&eventstore.Recorded{Stream: eventstore.Stream(Category, strconv.Itoa(i)), Event: eventstore.Event{Type: ReceivedV1}})
		b.look(t.Context())
		now = now.Add(time.Minute)
	}
	if most := int(demandKept/time.Minute) + 1; len(b.codes) > most || len(b.codes) == 0 {
		t.Errorf("it remembers %d codes, of which %d were asked for in the last %s", len(b.codes), most, demandKept)
	}
}

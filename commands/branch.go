package commands

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// branch says which events of a stream count where one branch does.
type branch struct {
	// void has for each event why it does not count, empty when it does.
	void []string
	// waiting are the places of events about which a person has to decide, void until then.
	waiting []int
	// open are the last events of the branches that a person has to choose from, the one that counts meanwhile first; nil when
	// there is nothing to choose.
	open []eventstore.Dot
}

// unsettled reports whether a person has to decide about the event at a place.
func (b *branch) unsettled(place int) bool { return slices.Contains(b.waiting, place) }

// branchOf returns the branch of a stream that counts. The events are all of it, in canonical order.
//
// The one that counts is a chain: each event of it was decided with the knowledge of those before. The others are void, also
// those that were decided with the knowledge of void ones alone.
func branchOf(kind ResolverKind, events []eventstore.Recorded) branch {
	b := branch{void: make([]string, len(events))}
	if kind == ByManual {
		b.settle(events)
		return b
	}
	order := make([]int, len(events))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(events[j].Epoch, events[i].Epoch) })
	b.chain(events, order, nil)
	return b
}

// chain has the events at the given places count, in that order, that are not concurrent with one that counts already, and
// returns those that count.
func (b *branch) chain(events []eventstore.Recorded, order, counting []int) []int {
	for _, i := range order {
		e := &events[i]
		at := slices.IndexFunc(counting, func(j int) bool { return eventstore.Concurrent(&events[j], e) })
		if at < 0 {
			counting = append(counting, i)
			continue
		}
		other := &events[counting[at]]
		if other.Epoch > e.Epoch {
			b.void[i] = fmt.Sprintf("%s wrote the stream at epoch %d, above %d", other.Dot.Log.Site, other.Epoch, e.Epoch)
		} else {
			b.void[i] = fmt.Sprintf("%s wrote the stream at the same time, and before it: %s", other.Dot.Log.Site, other.Dot)
		}
	}
	return counting
}

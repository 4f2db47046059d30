package node

import (
	"fmt"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// leafletCategory is that of texts of which a person picks a branch when several sites have written one at once.
const leafletCategory = "leaflet"

// leaflet is a command that adds to a text, and printed what comes of it.
type leaflet struct{ ID, Text string }

type printed struct{ Text string }

const printedV1 = "leaflet.printed.v1"

func leaflets() commands.Aggregate[string, any, printed] {
	return commands.Aggregate[string, any, printed]{
		Category: leafletCategory,
		ID:       func(c any) string { return c.(leaflet).ID },
		Decide:   func(_ string, c any) ([]printed, error) { return []printed{{c.(leaflet).Text}}, nil },
		Evolve:   func(s string, e printed) string { return s + e.Text },
		Codec:    commands.JSONCodec(map[string]printed{printedV1: {}}),
		Resolver: commands.Manual[string, printed]{},
	}
}

// withLeaflets has a model count what was printed of each leaflet, beside all else: by whom, and what was printed last.
func withLeaflets(p projections.Projection[projections.Keys]) projections.Projection[projections.Keys] {
	apply := p.Apply
	p.Apply = func(w projections.Keys, e *eventstore.Recorded) error {
		if e.Stream.Category != leafletCategory {
			return apply(w, e)
		}
		w.HashAdd("leaflets", e.Stream.ID, 1)
		w.HashSet("leaflet:"+e.Stream.ID, "last", e.Dot.String())
		return nil
	}
	p.Types, p.Categories = append(p.Types, printedV1), append(p.Categories, leafletCategory)
	return p
}

// counted returns the events of a leaflet that count, and whether a branch of it was picked.
func (s *shopSite) counted(t testing.TB, id string) (counts []eventstore.Recorded, picked bool) {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range s.open.Read(t.Context(), eventstore.Stream(leafletCategory, id), 1) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	_, j, err := commands.Fold(leaflets(), events)
	if err != nil {
		t.Fatal(err)
	}
	void := map[eventstore.Dot]bool{}
	for _, v := range j.Void {
		void[v.Event] = true
	}
	for _, e := range events {
		picked = picked || e.Kind == eventstore.KindResolution
		if e.Type == printedV1 && !void[e.Dot] {
			counts = append(counts, e)
		}
	}
	return counts, picked
}

// checkLeaflets compares the model of leaflets with what counts in their streams.
func (s *shopSite) checkLeaflets(t testing.TB) {
	t.Helper()
	for i := range 2 {
		id := fmt.Sprintf("L-%d", i)
		counts, _ := s.counted(t, id)
		if len(counts) == 0 {
			continue
		}
		got, last := s.keysKept.Value("leaflets").Hash[id], s.keysKept.Value("leaflet:" + id).Hash["last"]
		if got != fmt.Sprint(len(counts)) || last != counts[len(counts)-1].Dot.String() {
			t.Fatalf("%s: leaflet %s was printed %s times, last with %s; in its stream %d count, up to %s", s.name, id, got, last, len(counts), counts[len(counts)-1].Dot)
		}
	}
}

// picked returns of how many leaflets a branch was picked.
func (s *shopSite) picked(t testing.TB) (n int) {
	t.Helper()
	for i := range 2 {
		if _, picked := s.counted(t, fmt.Sprintf("L-%d", i)); picked {
			n++
		}
	}
	return n
}

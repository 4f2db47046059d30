package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who looks at the folder of a site that is stopped sees what is in it, and changes nothing: the site does not come up for the others,
// its log stays as it is, and what would be recorded is refused. What only a server has is asked of one.
func TestLookingChangesNothing(t *testing.T) {
	s := newSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--homed", "ledger")
	}
	a, b := s.both(t)
	s.equal(t)
	s.agreed(t)
	if status, _, body := a.book(t, "1", "k-1"); status != http.StatusCreated {
		t.Fatalf("booking: %d: %s", status, body)
	}
	s.equal(t)
	a.order(t, "L-1")
	a.caughtUp(t)
	digest := a.get(t, "/v1/cells")["digest"]
	a.stop(t)
	eventually(t, "the other site hears it no more", func() bool { return b.get(t, "/v1/sites")["mode"] == "isolated" })

	data := []string{"--json", "--data", s.data[0]}
	all := func() string {
		return done(t, append([]string{"events", "read", "--system"}, data...)...)
	}
	before := all()
	if !strings.Contains(before, "ledger.booked.v1") || !strings.Contains(before, `"L-1"`) {
		t.Errorf("the log of the stopped site reads %s", tail(before, 500))
	}
	stream := done(t, append([]string{"events", "read", "--stream", "order/L-1"}, data...)...)
	if !strings.HasPrefix(stream, "{") {
		t.Errorf("an order of the stopped site reads %s", stream)
	}
	cells := decoded[object](t, done(t, append([]string{"cells", "list"}, data...)...))
	if cells["digest"] != digest {
		t.Errorf("the cells of the stopped site are %v, they were %v", cells["digest"], digest)
	}
	decoded[object](t, done(t, append([]string{"groups", "list"}, data...)...))
	if list := done(t, append([]string{"schemas", "list"}, data...)...); !strings.Contains(list, "order.created.v1") {
		t.Errorf("the schemas of the stopped site are %s", tail(list, 500))
	}
	for _, verb := range []string{"conflicts", "parked list", "events tail"} {
		if got := tributary(t, append(strings.Fields(verb), "--data", s.data[0])...); got.code != 2 || !strings.Contains(got.stderr, "tributary serve --data") {
			t.Errorf("%s of the stopped site: %+v, want how to start it", verb, got)
		}
	}
	if after := all(); after != before {
		t.Errorf("the looks have changed the log; it ends with %s and ended with %s", tail(after, 500), tail(before, 500))
	}
	if _, err := os.Stat(filepath.Join(s.data[0], "server.json")); err == nil {
		t.Error("who has looked has left a beacon")
	}
	if now := b.get(t, "/v1/sites"); now["mode"] != "isolated" {
		t.Errorf("the other site hears the one that is looked at: %v", now)
	}
	s.start(t, 0)
	s.equal(t)
	if again := s.at[0].get(t, "/v1/cells")["digest"]; again != digest {
		t.Errorf("after the looks the cells are %v, they were %v", fmt.Sprint(again), digest)
	}
}

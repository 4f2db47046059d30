package replication

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// newSigner is a site that is about to start for the first time.
func newSigner(t *testing.T, name string, given ...string) *signer {
	t.Helper()
	s := &signer{name: name, home: home{shard: Shard{Region: name}}, homed: []string{"payment"}, given: given}
	s.store = memstore.New(memstore.Options{
		LogID: eventstore.LogID{Site: name, Incarnation: 1},
		Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) { return s.fence.Check(stream, cell) },
	})
	t.Cleanup(func() { _ = s.store.Close() })
	s.start(t)
	return s
}

// waits checks that a site has founded nothing, and writes nothing homed, for want of another site.
func (s *signer) waits(t *testing.T, what string) {
	t.Helper()
	if err := s.registrar.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if roster := s.registrar.Roster(); roster.Epoch != 0 {
		t.Errorf("%s: %s has founded %q with %v", what, s.name, roster.Cluster, roster.Founders)
	}
	var blocked *eventstore.BlockedError
	if err := s.pay(t.Context(), eventstore.Stream("payment", "1")); !errors.As(err, &blocked) || !strings.Contains(blocked.Why, "sites found --without") {
		t.Errorf("%s: %s writes what is homed: %v", what, s.name, err)
	}
}

// A site founds no system without sites whose events it has, or that others were told of; an operator may say that they are gone,
// and then takes their cells as those of any site. R16.
func TestNobodyFoundsAlone(t *testing.T) {
	bj, sh := newSigner(t, "bj", "sh"), newSigner(t, "sh", "bj")
	if ok, err := sh.writes(t.Context(), eventstore.Stream("cart", "1")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	sh.given = nil
	sh.start(t)
	sh.waits(t, "others may found it")
	bj.learns(t, sh, 10)
	bj.words, bj.given = Words{}, nil // its last program kept none
	bj.start(t)
	bj.waits(t, "it has events of another site")

	for want, sites := range map[error][]string{eventstore.ErrInvalid: {"bj", "sz", ""}} {
		for _, site := range sites {
			if _, err := bj.registrar.Found(t.Context(), []string{site}, "it burnt down"); !errors.Is(err, want) {
				t.Errorf("founded without %q: %v", site, err)
			}
		}
	}
	if _, err := bj.registrar.Found(t.Context(), []string{"sh"}, ""); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("founded without a reason: %v", err)
	}
	roster, err := bj.registrar.Found(t.Context(), []string{"sh"}, "it burnt down")
	if err != nil || !slices.Equal(roster.Founders, []string{"bj", "sh"}) {
		t.Fatal(roster, err)
	}
	bj.own(t)
	homes := map[string]bool{}
	for cell := range uint16(eventstore.Cells) {
		c, _ := bj.fence.Cell(cell)
		if c.Home == sh.shard && !homes["sh"] {
			if err := bj.owner.Take(t.Context(), cell, sh.shard, "it burnt down", nil); err != nil {
				t.Fatal(err)
			}
		}
		homes[c.Home.Region] = true
	}
	if len(homes) != 2 {
		t.Errorf("the cells belong to %v", homes)
	}
	if _, err := bj.registrar.Found(t.Context(), []string{"sh"}, "it burnt down"); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("founded twice: %v", err)
	}
	meet(t, bj, sh)
	if got := sh.registrar.Roster(); got.Cluster != roster.Cluster {
		t.Errorf("the site that was not gone belongs to %q, the others to %q", got.Cluster, roster.Cluster)
	}
}

// Of three sites one is gone before the system was founded: the first of the others founds it, when all of them say the same.
func TestFoundedWithoutASite(t *testing.T) {
	bj, sz := newSigner(t, "bj", "sh", "sz"), newSigner(t, "sz", "bj", "sh")
	gone := []string{"sh"}
	if _, err := bj.registrar.Found(t.Context(), gone, "it burnt down"); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("founded before the others have been heard: %v", err)
	}
	if ok, err := sz.writes(t.Context(), eventstore.Stream("cart", "1")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	sz.start(t)
	bj.meets(t, sz)
	if _, err := bj.registrar.Found(t.Context(), gone, "it burnt down"); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("founded before all that others have written is here: %v", err)
	}
	meet(t, bj, sz)
	if bj.registrar.Roster().Epoch != 0 {
		t.Fatal("founded by itself, without a site that was named")
	}
	if _, err := sz.registrar.Found(t.Context(), gone, "it burnt down"); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "site bj") {
		t.Errorf("founded by another than the first: %v", err)
	}
	if _, err := bj.registrar.Found(t.Context(), []string{"sz"}, "it burnt down"); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("founded without a site that is heard: %v", err)
	}
	if _, err := bj.registrar.Found(t.Context(), gone, "it burnt down"); err != nil {
		t.Fatal(err)
	}
	meet(t, bj, sz)
	for _, s := range []*signer{bj, sz} {
		if roster := s.registrar.Roster(); roster.Epoch != 1 || len(roster.Members) != 3 || len(s.reasons()) > 0 {
			t.Errorf("site %s has %+v, and holds back %q", s.name, roster, s.reasons())
		}
	}
}

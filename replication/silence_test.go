package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// foundedSites are sites of one system that have heard each other, and hold the same.
func foundedSites(t *testing.T, timed bool, names ...string) (all []*signer) {
	t.Helper()
	for _, name := range names {
		s := &signer{name: name, home: home{shard: Shard{Region: name}}, homed: []string{"ledger"}, timed: timed}
		s.given = slices.DeleteFunc(slices.Clone(names), func(other string) bool { return other == name })
		s.store = memstore.New(memstore.Options{
			LogID: eventstore.LogID{Site: name, Incarnation: 1},
			Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) { return s.fence.Check(stream, cell) },
		})
		s.start(t)
		all = append(all, s)
	}
	meet(t, all...)
	return all
}

// meet has sites hear each other, and have the same in the end.
func meet(t *testing.T, all ...*signer) {
	t.Helper()
	for range 4 {
		for _, s := range all {
			for _, other := range all {
				if other != s {
					s.learns(t, other, 1000)
					s.meets(t, other)
				}
			}
			if err := s.registrar.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.own(t)
		}
	}
}

// meets takes what another site says now.
func (s *signer) meets(t *testing.T, from *signer) {
	t.Helper()
	terms := from.registrar.Terms()
	if err := s.registrar.Heard(from.name, &terms); err != nil {
		t.Fatal(err)
	}
}

// A home that was silent, for no longer than it takes until others may take its cells, writes none of them before it knows what became
// of them. R16.
func TestShortSilence(t *testing.T) {
	for _, silence := range []time.Duration{2 * time.Second, 3 * time.Second, 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			all := foundedSites(t, true, "bj", "sh")
			bj, sh := all[0], all[1]
			defer func() { _ = errors.Join(bj.store.Close(), sh.store.Close()) }()
			stream := eventstore.Stream("ledger", "0")
			for i := 1; bj.owner.ring.Of(eventstore.CellOf(stream)) != bj.shard; i++ {
				stream = eventstore.Stream("ledger", fmt.Sprint(i))
			}
			if err := bj.pay(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			sh.learns(t, bj, 1000)
			time.Sleep(silence)
			if err := sh.owner.Take(t.Context(), eventstore.CellOf(stream), bj.shard, "bj is gone", nil); err != nil {
				t.Fatal(err)
			}
			if err := sh.pay(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			bj.meets(t, sh)
			if err := bj.pay(t.Context(), stream); !errors.Is(err, eventstore.ErrBlocked) {
				t.Errorf("after %s of silence bj writes what sh has taken: %v", silence, err)
			}
			bj.learns(t, sh, 1000)
			bj.meets(t, sh)
			if err := bj.pay(t.Context(), stream); !errors.Is(err, eventstore.ErrNotHome) {
				t.Errorf("when bj has what sh wrote, it is told %v", err)
			}
		})
	}
}

package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// signer is a site with a registrar, which is started again with other settings now and then.
type signer struct {
	home
	name         string
	registrar    *Registrar
	given, homed []string
	words        Words
	told         []Terms // since the start
	timed        bool    // silence counts, as it does by default
}

// start has the site run with its settings, on the log that it has.
func (s *signer) start(t *testing.T) {
	t.Helper()
	s.fence = NewFence(s.shard, func(category string) bool { return slices.Contains(s.homed, category) })
	o := RegistrarOptions{
		Site: s.name, Fence: s.fence, Store: s.store, Heads: s.store.Heads, Given: s.given, Homed: s.homed, Words: s.words,
		Keep: func(w Words) error { s.words = w; return nil }, NewID: func() string { return "system of " + s.name },
	}
	if !s.timed {
		o.Silence, o.Suspect = time.Hour, time.Hour
	}
	var err error
	if s.registrar, err = NewRegistrar(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s.owner, s.told = nil, nil
	s.own(t)
}

// own reads who owns the cells, once that can be known.
func (s *signer) own(t *testing.T) {
	t.Helper()
	roster := s.registrar.Roster()
	if s.owner != nil || roster.Epoch == 0 {
		return
	}
	var shards []Shard
	for _, name := range roster.Founders {
		shards = append(shards, Shard{Region: name})
	}
	ring, err := NewRing(shards...)
	if err != nil {
		t.Fatal(err)
	}
	s.open(t, ring)
}

// hears takes what another site says, now or, on the way for long, a while ago.
func (s *signer) hears(t *testing.T, from *signer, random *rand.Rand) {
	t.Helper()
	from.told = append(from.told, from.registrar.Terms())
	word := from.told[len(from.told)-1-random.IntN(min(len(from.told), 3))]
	if err := s.registrar.Heard(from.name, &word); err != nil {
		t.Fatal(err)
	}
}

// learns receives up to most batches of another site's log, and takes in what they say.
func (s *signer) learns(t *testing.T, from *signer, most int) {
	t.Helper()
	log := eventstore.LogID{Site: from.name, Incarnation: 1}
	heads, err := s.store.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := func(d eventstore.Dot) bool {
		return d.Log.Site == s.name || slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == d.Log && h.Seq >= d.Seq })
	}
	after := uint64(0)
	for _, h := range heads {
		if h.Log == log {
			after = h.Seq
		}
	}
	for e, err := range from.store.ReadLog(t.Context(), log, after) {
		if most--; err != nil || most < 0 || slices.ContainsFunc(e.Dep, func(d eventstore.Dot) bool { return !held(d) }) {
			return
		}
		category := e.Stream.Category
		cell, _ := cellOf(&e)
		if _, err := s.store.Receive(t.Context(), []eventstore.Recorded{e}); err != nil {
			t.Fatal(err)
		}
		switch {
		case category == RosterCategory:
			if err := s.registrar.read(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.own(t)
		case category == CellCategory && s.owner != nil:
			if err := s.owner.settle(t.Context(), cell); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// writes appends to a stream, and says in the event whether the site takes it for homed.
func (s *signer) writes(ctx context.Context, stream eventstore.StreamID) (bool, error) {
	how := "free"
	if slices.Contains(s.homed, stream.Category) {
		how = "homed"
	}
	_, err := s.store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: stream, Events: []eventstore.Event{{Type: stream.Category + "." + how + ".v1"}},
	}}})
	if err == nil || errors.Is(err, eventstore.ErrNotHome) || errors.Is(err, eventstore.ErrBlocked) || errors.Is(err, eventstore.ErrUnavailable) {
		return err == nil, nil
	}
	return false, err
}

// Sites are started with other lists of homed categories than others, or than before, at any time, and hear each other late or not
// at all: what one has written as homed no other has written without knowing of it. In the end, started with the same list,
// all write again. R16.
func TestNothingHomedIsWrittenTwice(t *testing.T) {
	lists := [][]string{{}, {"ledger"}, {"payment"}, {"ledger", "payment"}}
	names := []string{"bj", "sh", "sz"}
	homedWrites, freeWrites, blocked, agreements := 0, 0, 0, uint32(0)
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 11))
		var all []*signer
		for _, name := range names[:2+random.IntN(2)] {
			s := &signer{name: name, home: home{shard: Shard{Region: name}}, homed: lists[random.IntN(len(lists))]}
			s.store = memstore.New(memstore.Options{
				LogID: eventstore.LogID{Site: name, Incarnation: 1},
				Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) { return s.fence.Check(stream, cell) },
			})
			t.Cleanup(func() { _ = s.store.Close() })
			all = append(all, s)
			for _, other := range names[:2] {
				if other != name {
					s.given = append(s.given, other)
				}
			}
		}
		for _, s := range all {
			if len(all) == 3 && s.name != "sz" && random.IntN(2) == 0 {
				s.given = append(s.given, "sz")
			}
			s.start(t)
		}
		for range 600 {
			s, other := all[random.IntN(len(all))], all[random.IntN(len(all))]
			stream := eventstore.Stream(lists[3][random.IntN(2)], fmt.Sprint(random.IntN(3)))
			switch n := random.IntN(22); {
			case n < 7 && s.bound(all):
				ok, err := s.writes(t.Context(), stream)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case !ok:
					blocked++
				case slices.Contains(s.homed, stream.Category):
					homedWrites++
				default:
					freeWrites++
				}
			case n == 7 && random.IntN(3) == 0:
				s.homed = lists[random.IntN(len(lists))]
				s.start(t)
			case n == 8 && s.owner != nil && other != s:
				if err := s.owner.Move(t.Context(), eventstore.CellOf(stream), other.shard); err != nil &&
					!errors.Is(err, eventstore.ErrNotHome) && !errors.Is(err, ErrMoving) {
					t.Fatal(err)
				}
			case other == s:
				if err := s.registrar.settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				s.own(t)
			case n < 14:
				s.learns(t, other, 1+random.IntN(8))
			default:
				s.hears(t, other, random)
			}
		}
		for _, s := range all { // all are told the same
			s.homed, s.given = lists[3], slices.DeleteFunc(slices.Clone(names[:len(all)]), func(name string) bool { return name == s.name })
			s.start(t)
		}
		for range 12 {
			for _, s := range all {
				for _, other := range all {
					if other != s {
						s.learns(t, other, 10_000)
						s.hears(t, other, random)
					}
				}
				if err := s.registrar.settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				s.own(t)
			}
		}
		for _, s := range all {
			agreements += s.registrar.Roster().Epoch
			differences, why := s.registrar.Differences()
			if why.Any() || len(differences) > 0 || s.owner == nil {
				t.Errorf("seed %d: %s is still held back: %v, %v", seed, s.name, differences, why.Reasons())
				continue
			}
			if s.fence.Digest() != all[0].fence.Digest() || s.registrar.Roster().Cluster != all[0].registrar.Roster().Cluster {
				t.Errorf("seed %d: %s and %s differ on who owns what", seed, s.name, all[0].name)
			}
			for _, category := range lists[3] {
				for i := range 3 {
					s.checkHomed(t, seed, eventstore.Stream(category, fmt.Sprint(i)))
				}
			}
		}
		for i := range 3 { // each stream is written at one site
			stream, writers := eventstore.Stream("ledger", fmt.Sprint(i)), 0
			for _, s := range all {
				if ok, err := s.writes(t.Context(), stream); err != nil {
					t.Fatal(err)
				} else if ok {
					writers++
				}
			}
			if writers != 1 {
				t.Errorf("seed %d: in the end %d sites write %s", seed, writers, stream)
			}
		}
	}
	if homedWrites < 300 || freeWrites < 1000 || blocked < 1000 || agreements < 200 {
		t.Errorf("%d homed and %d free writes, %d held back, %d agreements: that shows too little", homedWrites, freeWrites, blocked, agreements)
	}
	t.Logf("%d homed and %d free writes, %d held back, %d agreements", homedWrites, freeWrites, blocked, agreements)
}

// bound reports whether an agreement needs the site's word: it is on record, or the first one cannot be made without it.
func (s *signer) bound(all []*signer) bool {
	roster := s.registrar.Roster()
	return s.name != "sz" || roster.Has(s.name) ||
		roster.Epoch == 0 && slices.ContainsFunc(all[:2], func(other *signer) bool { return slices.Contains(other.given, s.name) })
}

// checkHomed checks that no event of a stream that was written as homed is concurrent with another one.
func (s *signer) checkHomed(t *testing.T, seed uint64, stream eventstore.StreamID) {
	t.Helper()
	var events []*eventstore.Recorded
	for e, err := range s.store.Read(t.Context(), stream, 1) {
		if errors.Is(err, eventstore.ErrNotFound) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, &e)
	}
	for i, f := range events {
		for _, e := range events[:i] {
			if eventstore.Concurrent(e, f) && (strings.Contains(e.Type, ".homed.") || strings.Contains(f.Type, ".homed.")) {
				t.Fatalf("seed %d: %s (%s) and %s (%s) have both written %s", seed, e.Dot, e.Type, f.Dot, f.Type, stream)
			}
		}
	}
}

// A site that has told others a list leaves alone what it would change, after it was started with another one too, for it may have been
// agreed on behind its back; and what it has said before an agreement counts for no later one. R16.
func TestWordsBind(t *testing.T) {
	var all []*signer
	for i, name := range []string{"bj", "sh"} {
		s := &signer{name: name, home: home{shard: Shard{Region: name}}, given: []string{[]string{"sh", "bj"}[i]}}
		s.store = memstore.New(memstore.Options{
			LogID: eventstore.LogID{Site: name, Incarnation: 1},
			Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) { return s.fence.Check(stream, cell) },
		})
		t.Cleanup(func() { _ = s.store.Close() })
		s.start(t)
		all = append(all, s)
	}
	bj, sh := all[0], all[1]
	stream := eventstore.Stream("ledger", "1")
	says := func(from, to *signer) Terms {
		t.Helper()
		word := from.registrar.Terms()
		if err := to.registrar.Heard(from.name, &word); err != nil {
			t.Fatal(err)
		}
		return word
	}
	settles := func(s *signer, epoch uint32) {
		t.Helper()
		if err := s.registrar.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.registrar.Roster().Epoch; got != epoch {
			t.Errorf("%s has come to agreement %d, want %d", s.name, got, epoch)
		}
	}
	settles(bj, 0)
	says(sh, bj)
	settles(bj, 1)
	sh.learns(t, bj, 10)
	early := says(sh, bj)

	for _, s := range all {
		s.homed = []string{"ledger"}
		s.start(t)
	}
	says(sh, bj)
	settles(bj, 2)
	sh.homed = nil
	sh.start(t)
	if err := sh.pay(t.Context(), stream); !errors.Is(err, eventstore.ErrBlocked) {
		t.Errorf("sh writes by another list than it has told: %v", err)
	}
	sh.learns(t, bj, 10)
	if err := sh.pay(t.Context(), stream); !errors.Is(err, eventstore.ErrBlocked) {
		t.Errorf("sh writes by another list than was agreed on: %v", err)
	}

	bj.homed = nil
	bj.start(t)
	if err := bj.registrar.Heard("sh", &early); err != nil { // it was long on the way
		t.Fatal(err)
	}
	settles(bj, 2)
	says(sh, bj)
	settles(bj, 3)
	if err := bj.pay(t.Context(), stream); err != nil {
		t.Errorf("when all have said the same: %v", err)
	}
}

// Sites whose programs may mean different things by what they say write nothing homed, and agree on nothing, until they have the
// same format: one that has another is told apart by what is said of it. R16.
func TestFormatsThatDiffer(t *testing.T) {
	bj := &signer{name: "bj", home: home{shard: Shard{Region: "bj"}}, given: []string{"sh"}, homed: []string{"ledger"}}
	bj.store = memstore.New(memstore.Options{
		LogID: eventstore.LogID{Site: "bj", Incarnation: 1},
		Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) { return bj.fence.Check(stream, cell) },
	})
	t.Cleanup(func() { _ = bj.store.Close() })
	bj.start(t)
	hears := func(format uint32) {
		t.Helper()
		said := bj.registrar.Terms()
		said.Format = format
		if err := bj.registrar.Heard("sh", &said); err != nil {
			t.Fatal(err)
		}
		if err := bj.registrar.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		bj.own(t)
	}
	stream := eventstore.Stream("ledger", "0")
	hears(TermsFormat + 1)
	if epoch := bj.registrar.Roster().Epoch; epoch != 0 {
		t.Errorf("a system is founded with a site that may mean something else: agreement %d", epoch)
	}
	hears(TermsFormat)
	for i := 1; bj.owner.ring.Of(eventstore.CellOf(stream)).Region != "bj"; i++ {
		stream = eventstore.Stream("ledger", fmt.Sprint(i))
	}
	if err := bj.pay(t.Context(), stream); err != nil {
		t.Fatalf("with the same format: %v", err)
	}
	hears(TermsFormat + 1)
	if err := bj.pay(t.Context(), stream); !errors.Is(err, eventstore.ErrBlocked) || !strings.Contains(err.Error(), "format differs from site sh") {
		t.Errorf("with another format: %v, want it blocked", err)
	}
	hears(TermsFormat)
	if err := bj.pay(t.Context(), stream); err != nil {
		t.Errorf("with the same format again: %v", err)
	}
}

// Two systems that were begun apart do not meet. R17.
func TestSystemsAreKeptApart(t *testing.T) {
	var all []*signer
	for _, name := range []string{"bj", "sh"} {
		s := &signer{name: name, home: home{shard: Shard{Region: name}}, homed: []string{"ledger"}}
		s.store = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}})
		t.Cleanup(func() { _ = s.store.Close() })
		s.start(t)
		if err := s.registrar.settle(t.Context()); err != nil { // it has no others: it is a system by itself
			t.Fatal(err)
		}
		all = append(all, s)
	}
	terms := all[1].registrar.Terms()
	err := all[0].registrar.Heard("sh", &terms)
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "system of sh") {
		t.Errorf("a site of another system is heard: %v", err)
	}
	terms.Cluster = ""
	if err := all[0].registrar.Heard("sh", &terms); err != nil {
		t.Errorf("a site of none: %v", err)
	}
}

// Two sites that have taken one cell each for itself hold it back until they know of each other; a site that has come back writes
// nothing of cells of which others know more. R16.
func TestCellsThatDiffer(t *testing.T) {
	var all []*signer
	names := []string{"bj", "sh", "sz"}
	for _, name := range names {
		s := &signer{
			name: name, home: home{shard: Shard{Region: name}}, homed: []string{"payment"},
			given: slices.DeleteFunc(slices.Clone(names), func(other string) bool { return other == name }),
		}
		s.store = memstore.New(memstore.Options{
			LogID: eventstore.LogID{Site: name, Incarnation: 1},
			Fence: func(stream eventstore.StreamID, cell uint16) (uint32, error) { return s.fence.Check(stream, cell) },
		})
		t.Cleanup(func() { _ = s.store.Close() })
		s.start(t)
		all = append(all, s)
	}
	exchange := func(learn bool, sites ...*signer) {
		for range 4 {
			for _, s := range sites {
				for _, other := range sites {
					if other == s {
						continue
					}
					if learn {
						s.learns(t, other, 1000)
					}
					terms := other.registrar.Terms()
					if err := s.registrar.Heard(other.name, &terms); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.registrar.settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				s.own(t)
			}
		}
	}
	exchange(true, all...)
	stream := eventstore.Stream("payment", "0")
	for i := 1; all[0].owner.ring.Of(eventstore.CellOf(stream)).Region != "sz"; i++ {
		stream = eventstore.Stream("payment", fmt.Sprint(i))
	}
	cell := eventstore.CellOf(stream)
	for _, s := range all[:2] {
		if err := s.owner.Take(t.Context(), cell, Shard{Region: "sz"}, "it burnt down", nil); err != nil {
			t.Fatal(err)
		}
	}
	exchange(false, all[:2]...)
	for _, s := range all[:2] {
		var blocked *eventstore.BlockedError
		if err := s.pay(t.Context(), stream); !errors.As(err, &blocked) || !strings.Contains(blocked.Why, "cells differs") || eventstore.ClassOf(err) != eventstore.Transient {
			t.Errorf("%s writes what another has taken too: %v", s.name, err)
		}
		if reasons := s.reasons(); len(reasons) != 1 || !strings.Contains(reasons[0], "64 cells") {
			t.Errorf("%s holds back %q", s.name, reasons)
		}
	}
	exchange(true, all[:2]...)
	if one, two := all[0].pay(t.Context(), stream), all[1].pay(t.Context(), stream); (one == nil) == (two == nil) {
		t.Errorf("who has the cell: %v and %v", one, two)
	}
	terms := all[0].registrar.Terms()
	all[2].start(t)
	if err := all[2].pay(t.Context(), stream); err != nil { // it did not burn down
		t.Fatal(err)
	}
	if err := all[2].registrar.Heard("bj", &terms); err != nil {
		t.Fatal(err)
	}
	if err := all[2].pay(t.Context(), stream); !errors.Is(err, eventstore.ErrBlocked) {
		t.Errorf("a home that others know to be none writes: %v", err)
	}
	exchange(true, all...)
	if err := all[2].pay(t.Context(), stream); !errors.Is(err, eventstore.ErrNotHome) || len(all[2].reasons()) > 0 {
		t.Errorf("when it knows: %v, held back are %q", err, all[2].reasons())
	}
}

func (s *signer) reasons() []string {
	_, blocked := s.registrar.Differences()
	return blocked.Reasons()
}

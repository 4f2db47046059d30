package replication_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// Vaults are written at one site at a time. Their cells move, and are taken over from sites that are gone.

const vaults = 6

func vault(n int) eventstore.StreamID { return eventstore.Stream("vault", strconv.Itoa(n)) }

// rings are those of the first sites, by how many they are.
var rings = func() (rings [5]*replication.Ring) {
	for n := 1; n < len(rings); n++ {
		var shards []replication.Shard
		for i := range n {
			shards = append(shards, shardOf(siteName(i)))
		}
		ring, err := replication.NewRing(shards...)
		if err != nil {
			panic(err)
		}
		rings[n] = ring
	}
	return rings
}()

// drawVaults draws whether a history has vaults, apart from all else that is drawn.
func (p *plan) drawVaults(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0x7661756c7473))
	if p.sites < 3 || random.IntN(2) == 0 {
		return
	}
	p.vaults, p.auto = true, random.IntN(6) > 0
	p.config.Leases, p.config.Lease, p.config.TakeOver = true, 600*time.Millisecond, time.Second
	p.isolations = time.Duration(1+random.IntN(4)) * time.Second
	p.moves = time.Duration(100+random.IntN(1500)) * time.Millisecond
	if p.config.MaxWaiting > 0 {
		p.config.MaxWaiting += 1000 // all cells of a site are taken in one batch
	}
	p.duration += 5 * time.Second
	if p.auto && random.IntN(3) == 0 { // so little else goes wrong that takeovers come to an end
		p.kinds = p.kinds[:min(len(p.kinds), 1)]
		p.isolations += 2 * time.Second
	}
	if p.forgetful = p.sites == 3 && random.IntN(3) == 0; p.forgetful {
		p.duration += 5 * time.Second
	}
}

func (w *world) names() (names []string) {
	for _, s := range w.sites {
		names = append(names, s.name)
	}
	return names
}

// beginVaults has cells move, and sites cut off from all others.
func (w *world) beginVaults() {
	if w.ring == nil {
		return
	}
	var again func(every time.Duration, do func(s *site))
	again = func(every time.Duration, do func(s *site)) {
		w.after(time.Duration(w.rand.ExpFloat64()*float64(every)), func() {
			if w.calm {
				return
			}
			if s := w.sites[w.rand.IntN(len(w.sites))]; s.up && !s.stopped {
				do(s)
			}
			again(every, do)
		})
	}
	again(w.plan.moves, func(s *site) {
		if s.keeper != nil {
			s.keeper.move(eventstore.CellOf(vault(w.rand.IntN(vaults))), w.other(s))
		}
	})
	if w.plan.forgetful {
		w.after(w.between(time.Second, 6*time.Second), w.forgetCopies)
	}
	again(w.plan.isolations, func(s *site) {
		w.faults.count(isolated)
		w.tracef("%s: %s", s.name, faultNames[isolated])
		least, kind := 200*time.Millisecond, w.isolation
		if w.chance(0.5) { // for long enough to be taken over from
			least, kind = 2*time.Second, func() fault { return partition }
		}
		for _, o := range w.sites {
			if o != s {
				w.faults.cutFor(kind(), s, o, w.between(least, 4*time.Second))
			}
		}
	})
}

// askToTake has operators ask all sites for a cell that has just been sealed. Its home may be gone by then, and the site that it is on its
// way to not.
func (w *world) askToTake(cell uint16) {
	for _, d := range []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond, time.Second} {
		w.after(d, func() {
			for _, s := range w.sites {
				if s.up && !s.stopped && s.keeper != nil && !w.calm {
					s.keeper.take(cell)
				}
			}
		})
	}
}

// forgetCopies has a home acknowledge what another site has, has that one forget it, and cuts the home off before it comes there again.
func (w *world) forgetCopies() {
	home := w.sites[w.rand.IntN(len(w.sites))]
	taker, other := w.sites[(home.index+1)%3], w.sites[(home.index+2)%3]
	if w.calm || !home.up || !taker.up || !other.up || home.stopped || taker.stopped || other.stopped {
		return
	}
	w.faults.count(copiesForgotten)
	w.tracef("%s: %s, which %s had written", other.name, faultNames[copiesForgotten], home.name)
	w.faults.cutFor(partition, home, taker, 9*time.Second)
	other.backup()
	w.faults.end(w.between(300*time.Millisecond, time.Second), func() {
		if other.up {
			w.faults.cutFor(partition, home, other, 8*time.Second)
			w.faults.putBack(other, other.backups[len(other.backups)-1], w.chance(0.5) || w.plan.topicsForget())
		}
	})
}

// tookOver has clients go on at the taker and at the home, which may be there and know of nothing. At times the taker is cut off before it
// can tell what it has done, while the others hear each other; and one that has agreed forgets that, too, where sites do.
func (w *world) tookOver(taker *site, from string) {
	if w.calm {
		return
	}
	for _, s := range w.sites {
		if s == taker || s.name == from {
			w.bookAt(s, 8, time.Second)
		}
	}
	if w.chance(0.5) {
		return
	}
	w.after(0, func() {
		w.faults.count(takersCutOff)
		w.tracef("%s: %s", taker.name, faultNames[takersCutOff])
		for _, s := range w.sites {
			if s == taker {
				continue
			}
			w.faults.cutFor(partition, s, taker, w.between(time.Second, 5*time.Second))
			for _, o := range w.sites {
				if o != taker && o != s {
					w.faults.cutFor(partition, s, o, 0)
				}
			}
			if w.plan.forgetful && s.name != from && s.up {
				w.faults.count(votesForgotten)
				w.tracef("%s: %s", s.name, faultNames[votesForgotten])
				w.faults.putBack(s, s.backups[len(s.backups)-1], w.chance(0.5) || w.plan.topicsForget())
			}
		}
	})
}

// bookAt has a site asked to book n vaults in a while, once each.
func (w *world) bookAt(s *site, n int, within time.Duration) {
	for range n {
		w.booked++
		cmd := &command{id: "b" + strconv.Itoa(w.booked), kind: bookVault, stream: vault(w.rand.IntN(vaults)), amount: 1 + w.rand.IntN(5)}
		w.after(w.upTo(within), func() { s.runs(func() { s.handle(cmd, func(bool) {}) }) })
	}
}

// isolation draws how a site is cut off from another: mostly both ways.
func (w *world) isolation() fault {
	if w.chance(0.2) {
		return oneWay
	}
	return partition
}

// unsure reports whether a site does not take itself for a home yet. What it waits for may be gone with a disk that was put back.
func (w *world) unsure(s *site) bool { return s.keeper != nil && s.atHome() != nil }

// ownership is what the oracle has seen of who wrote a cell.
type ownership struct {
	by     map[uint32]string // the site, by epoch
	newest uint32
}

// wrote checks that a cell is written by one site in each epoch, and in no epoch after a later one.
func (o *oracle) wrote(s *site, e *eventstore.Recorded) {
	c := o.cells[e.Cell]
	if c == nil {
		c = &ownership{by: map[uint32]string{}}
		o.cells[e.Cell] = c
	}
	if by, written := c.by[e.Epoch]; written && by != s.name {
		o.violated("I16", "%s and %s both write cell %d in epoch %d, with %s", by, s.name, e.Cell, e.Epoch, e.Dot)
	}
	if e.Epoch < c.newest {
		o.violated("I16", "%s writes cell %d in epoch %d, with %s, after %s has in epoch %d", s.name, e.Cell, e.Epoch, e.Dot, c.by[c.newest], c.newest)
	}
	c.by[e.Epoch], c.newest = s.name, max(c.newest, e.Epoch)
}

// forgets forgives what a site has written that was put back to an earlier state, and that nobody has: it may have taken cells, and told
// nobody.
func (o *oracle) forgets(s *site) {
	type written struct {
		cell  uint16
		epoch uint32
	}
	left := map[written]bool{}
	for _, t := range o.logs {
		for _, b := range t.births {
			if t.id.Site == s.name && b.stream.Category == "vault" {
				left[written{b.event.Cell, b.event.Epoch}] = true
			}
		}
	}
	for cell, c := range o.cells {
		c.newest = 0
		for epoch, by := range c.by {
			if by == s.name && !left[written{cell, epoch}] {
				delete(c.by, epoch)
			} else {
				c.newest = max(c.newest, epoch)
			}
		}
	}
}

// acknowledge notes what clients are told that another site has, too.
func (o *oracle) acknowledge(s *site) {
	if len(s.peering) == 0 {
		return
	}
	held, lapses := s.core.Elsewhere(), s.core.Lapses()
	s.peering = slices.DeleteFunc(s.peering, func(d eventstore.Dot) bool {
		_, t := o.log(d.Log)
		if d.Seq > uint64(len(t.births)) || t.births[d.Seq-1].peered {
			return true // it is lost, or was acknowledged before
		}
		if held.At(d.Log) < d.Seq || slices.ContainsFunc(lapses, func(l replication.Lapse) bool { return l.Has(d) }) {
			return false
		}
		t.births[d.Seq-1].peered = true
		return true
	})
}

// kept checks that nothing is void that was acknowledged as being at another site too: who writes a stream under a later epoch knows it.
func (o *oracle) kept(events []*birth) {
	for _, b := range events {
		if !b.peered {
			continue
		}
		i, _ := o.log(b.dot.Log)
		for _, later := range events {
			if later.event.Epoch > b.event.Epoch && later.dot.Log != b.dot.Log && later.known.at(i) < b.dot.Seq {
				o.violated("I17", "%s was acknowledged as being at two sites, in epoch %d, and %s did not know it, in epoch %d", b.dot, b.event.Epoch, later.dot, later.event.Epoch)
			}
		}
	}
}

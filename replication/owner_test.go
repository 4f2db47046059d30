package replication

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// home is a site with an owner of cells; events go from one to the other by learn.
type home struct {
	shard Shard
	store *memstore.Store
	fence *Fence
	owner *Owner
}

func homes(t *testing.T, names ...string) []*home {
	t.Helper()
	var shards []Shard
	for i, name := range names {
		shards = append(shards, Shard{uint16(i + 1), name})
	}
	r, err := NewRing(shards...)
	if err != nil {
		t.Fatal(err)
	}
	var all []*home
	for _, s := range shards {
		h := &home{shard: s, fence: NewFence(s, func(category string) bool { return category == "payment" })}
		h.store = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: s.Region, Shard: s.Number, Incarnation: 1}, Fence: h.fence.Check})
		h.open(t, r)
		t.Cleanup(func() { _ = h.store.Close() })
		all = append(all, h)
	}
	return all
}

func (h *home) open(t *testing.T, r *Ring) {
	t.Helper()
	var err error
	if h.owner, err = NewOwner(t.Context(), h.fence, r, h.store, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// learn receives up to most batches of what another site's log has, with their causes, and takes in what that says of cells.
func (h *home) learn(t *testing.T, from *home, most int) {
	t.Helper()
	log := eventstore.LogID{Site: from.shard.Region, Shard: from.shard.Number, Incarnation: 1}
	heads, err := h.store.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := func(d eventstore.Dot) bool {
		return slices.ContainsFunc(heads, func(head eventstore.LogHead) bool { return head.Log == d.Log && head.Seq >= d.Seq })
	}
	after := uint64(0)
	for _, head := range heads {
		if head.Log == log {
			after = head.Seq
		}
	}
	for e, err := range from.store.ReadLog(t.Context(), log, after) {
		if err != nil {
			t.Fatal(err)
		}
		if most--; most < 0 || slices.ContainsFunc(e.Dep, func(d eventstore.Dot) bool { return !held(d) && d.Log.Site != h.shard.Region }) {
			return
		}
		if _, err := h.store.Receive(t.Context(), []eventstore.Recorded{e}); err != nil {
			t.Fatal(err)
		}
		if cell, ok := cellOf(&e); ok && e.Stream.Category == CellCategory {
			if err := h.owner.settle(t.Context(), cell); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (h *home) pay(ctx context.Context, stream eventstore.StreamID) error {
	_, err := h.store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: stream, Events: []eventstore.Event{{Type: "payment.made.v1"}}}}})
	return err
}

// Cells move back and forth while everybody writes: nobody ever writes what another may, no two write one stream without one
// knowing of the other, every site comes to the same owners, and a shard that starts again knows what it knew. R7.
func TestCellsMove(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 3))
		all := homes(t, "bj", "sh", "sz")
		streams := make([]eventstore.StreamID, 6)
		for i := range streams {
			streams[i] = eventstore.Stream("payment", fmt.Sprint(i))
		}
		paid, refused, moves := 0, 0, 0
		for range 300 {
			h := all[random.IntN(3)]
			stream := streams[random.IntN(len(streams))]
			cell := eventstore.CellOf(stream)
			switch n := random.IntN(10); {
			case n < 5:
				var elsewhere *eventstore.NotHomeError
				switch err := h.pay(t.Context(), stream); {
				case err == nil:
					paid++
				case !errors.As(err, &elsewhere):
					t.Fatal(err)
				case elsewhere.Home == h.shard.String() && !elsewhere.Moving:
					t.Fatalf("seed %d: %s sends a write to itself: %v", seed, h.shard, err)
				default:
					refused++
				}
			case n < 6:
				to := all[random.IntN(3)].shard
				switch err := h.owner.Move(t.Context(), cell, to); {
				case err == nil:
					moves++
				case !errors.Is(err, eventstore.ErrNotHome) && !errors.Is(err, ErrMoving) && !errors.Is(err, eventstore.ErrInvalid):
					t.Fatal(err)
				}
			case n < 7:
				h.open(t, h.owner.ring)
			default:
				h.learn(t, all[random.IntN(3)], 1+random.IntN(6))
			}
		}
		for range 40 {
			for _, h := range all {
				for _, from := range all {
					if from != h {
						h.learn(t, from, 1000)
					}
				}
			}
		}
		if paid == 0 || refused == 0 || moves == 0 {
			t.Errorf("seed %d: %d paid, %d refused, %d moves: that shows nothing", seed, paid, refused, moves)
		}
		digest := all[0].fence.Digest()
		if unmoved := homes(t, "bj", "sh", "sz")[0].fence.Digest(); digest == unmoved || unmoved == [16]byte{} {
			t.Errorf("seed %d: the digest of moved cells is %x, of unmoved ones %x", seed, digest, unmoved)
		}
		for _, h := range all {
			if got := h.fence.Digest(); got != digest {
				t.Errorf("seed %d: %s and %s differ on who owns what", seed, all[0].shard, h.shard)
			}
			h.open(t, h.owner.ring)
			if got := h.fence.Digest(); got != digest {
				t.Errorf("seed %d: %s started again knows other owners", seed, h.shard)
			}
			count := 0
			for _, stream := range streams {
				count += h.checkStream(t, seed, stream)
			}
			if count != paid {
				t.Errorf("seed %d: %s has %d payments, %d were made", seed, h.shard, count, paid)
			}
		}
	}
}

// checkStream checks that the events of a homed stream were written one after the other, under rising epochs.
func (h *home) checkStream(t *testing.T, seed uint64, stream eventstore.StreamID) (count int) {
	t.Helper()
	var events []*eventstore.Recorded
	for e, err := range h.store.Read(t.Context(), stream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Version != uint64(len(events))+1 || len(events) > 0 && e.Epoch < events[len(events)-1].Epoch {
			t.Errorf("seed %d: %s of %s has version %d and epoch %d after %d events", seed, e.Dot, stream, e.Version, e.Epoch, len(events))
		}
		if n := len(events); n > 0 && e.Epoch == events[n-1].Epoch && e.Dot.Log != events[n-1].Dot.Log {
			t.Errorf("seed %d: %s and %s both wrote %s at epoch %d", seed, e.Dot, events[n-1].Dot, stream, e.Epoch)
		}
		events = append(events, &e)
	}
	if conflicts := Conflicts(events); len(conflicts) > 0 {
		t.Errorf("seed %d: %d conflicts in %s, which is homed: %+v", seed, len(conflicts), stream, conflicts[0])
	}
	return len(events)
}

// A cell whose home is gone can be taken; of two that take it at once one has it, everywhere the same one, and what the old
// home still wrote stands below what was written since. R7.
func TestCellIsTaken(t *testing.T) {
	all := homes(t, "bj", "sh", "sz")
	stream := eventstore.Stream("payment", "1")
	cell := eventstore.CellOf(stream)
	at := slices.IndexFunc(all, func(h *home) bool { return h.owner.ring.Of(cell) == h.shard })
	old, a, b := all[at], all[(at+1)%3], all[(at+2)%3]
	if err := old.pay(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	a.learn(t, old, 10)
	b.learn(t, old, 10)
	if err := a.owner.Take(t.Context(), cell, old.shard, "", nil); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("taken without a reason: %v", err)
	}
	if err := a.owner.Take(t.Context(), cell, old.shard, "the site burnt down", nil); err != nil {
		t.Fatal(err)
	}
	if err := a.owner.Take(t.Context(), cell, old.shard, "the site burnt down", nil); !errors.Is(err, ErrTaken) || errors.Is(err, eventstore.ErrConflict) {
		t.Errorf("asked twice for a cell of a site that is gone, its new home says %v", err)
	}
	if err := b.owner.Take(t.Context(), cell, old.shard, "the site burnt down", nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.pay(t.Context(), stream), b.pay(t.Context(), stream)); err != nil {
		t.Fatal(err)
	}
	if err := old.pay(t.Context(), stream); err != nil { // it did not burn down
		t.Fatal(err)
	}
	for range 3 {
		for _, h := range all {
			for _, from := range all {
				if from != h {
					h.learn(t, from, 100)
				}
			}
		}
	}
	owner, _ := a.fence.Cell(cell)
	if owner.Epoch != 1 || owner.Home == old.shard {
		t.Errorf("the cell belongs to %s at epoch %d, want one of those who took it, at 1", owner.Home, owner.Epoch)
	}
	for _, h := range all {
		if h.shard != owner.Home && h != old {
			if err := h.owner.Take(t.Context(), cell, old.shard, "the site burnt down", nil); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "it belongs to "+owner.Home.String()) {
				t.Errorf("a cell that another site has taken is taken again: %v", err)
			}
		}
		if got, _ := h.fence.Cell(cell); got != owner {
			t.Errorf("%s has the cell with %s, %s with %s", h.shard, got.Home, a.shard, owner.Home)
		}
		err := h.pay(t.Context(), stream)
		if h.shard == owner.Home && err != nil || h.shard != owner.Home && !errors.Is(err, eventstore.ErrNotHome) {
			t.Errorf("%s writes: %v", h.shard, err)
		}
	}
	var epochs []uint32
	for e, err := range a.store.Read(t.Context(), stream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, e.Epoch)
	}
	slices.Sort(epochs)
	if !slices.Equal(epochs, []uint32{0, 0, 1, 1, 1}) {
		t.Errorf("the payments have epochs %v", epochs)
	}
}

// sealedAndOpened are bj, which has sealed a cell for sh and written it before; sh, which has opened it and written it since; and sz, which
// knows of the seal alone.
func sealedAndOpened(t *testing.T) (bj, sh, sz *home, stream eventstore.StreamID) {
	t.Helper()
	all := homes(t, "bj", "sh", "sz")
	bj, sh, sz = all[0], all[1], all[2]
	stream = eventstore.Stream("payment", "0")
	for i := 1; bj.owner.ring.Of(eventstore.CellOf(stream)) != bj.shard; i++ {
		stream = eventstore.Stream("payment", fmt.Sprint(i))
	}
	if err := errors.Join(bj.pay(t.Context(), stream), bj.owner.Move(t.Context(), eventstore.CellOf(stream), sh.shard)); err != nil {
		t.Fatal(err)
	}
	sh.learn(t, bj, 10)
	sz.learn(t, bj, 10)
	if err := sh.pay(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	return bj, sh, sz, stream
}

// A cell that is on its way to a site that is heard cannot be taken, by its home neither: that site may have opened it. Where it is gone, what
// it wrote of it stands in an epoch of its own. R7, I16.
func TestSealedCellIsTaken(t *testing.T) {
	bj, sh, sz, stream := sealedAndOpened(t)
	cell := eventstore.CellOf(stream)
	heard := func(names ...string) func(context.Context, string) (bool, error) {
		return func(_ context.Context, site string) (bool, error) { return slices.Contains(names, site), nil }
	}
	for _, h := range []*home{bj, sz} {
		if err := h.owner.Take(t.Context(), cell, bj.shard, "bj burnt down", heard("sh")); !errors.Is(err, ErrMoving) {
			t.Errorf("%s takes a cell that sh may have opened: %v", h.shard, err)
		}
	}
	asked := errors.New("it is not known who is heard")
	if err := sz.owner.Take(t.Context(), cell, bj.shard, "both burnt down", func(context.Context, string) (bool, error) { return false, asked }); !errors.Is(err, asked) {
		t.Errorf("taken when %v: %v", asked, err)
	}
	if err := sz.owner.Take(t.Context(), cell, bj.shard, "both burnt down", heard("bj")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sz.pay(t.Context(), stream), sh.pay(t.Context(), stream)); err != nil { // they did not
		t.Fatal(err)
	}
	for range 2 {
		for _, h := range []*home{bj, sh, sz} {
			for _, from := range []*home{bj, sh, sz} {
				if from != h {
					h.learn(t, from, 100)
				}
			}
		}
	}
	for _, h := range []*home{bj, sh, sz} {
		if c, _ := h.fence.Cell(cell); c.Home != sz.shard || c.Epoch != 2 {
			t.Errorf("%s has the cell with %s at epoch %d", h.shard, c.Home, c.Epoch)
		}
	}
	by := map[uint32]string{}
	for e, err := range sz.store.Read(t.Context(), stream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if other, written := by[e.Epoch]; written && other != e.Dot.Log.Site {
			t.Errorf("%s and %s both wrote in epoch %d", other, e.Dot.Log.Site, e.Epoch)
		}
		by[e.Epoch] = e.Dot.Log.Site
	}
	if len(by) != 3 {
		t.Errorf("the payments were made by %v", by)
	}
}

// What has moved since somebody has looked whose a cell is cannot be taken from who is there, and what a site has agreed that another one
// takes over it takes not itself. I16.
func TestTakenAsTheLogHasIt(t *testing.T) {
	bj, sh, sz, stream := sealedAndOpened(t)
	cell := eventstore.CellOf(stream)
	bj.learn(t, sh, 10)
	sz.learn(t, sh, 10)
	if err := sz.owner.Take(t.Context(), cell, sh.shard, "sh burnt down", func(_ context.Context, site string) (bool, error) { return site == "sh", nil }); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a cell that sh has, which is heard, is taken: %v", err)
	}
	agreed := Entry{site: "sh", kind: TakeoverAgreed, note: takeoverNote{Taker: "bj", Round: 1, Among: []string{"bj", "sh", "sz"}}}
	if err := sz.owner.Enter(t.Context(), agreed); err != nil {
		t.Fatal(err)
	}
	if err := sz.owner.Take(t.Context(), cell, sh.shard, "sh burnt down", nil); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a cell of which sz has agreed that bj takes it over is taken by sz: %v", err)
	}
}

// A cell that its home has sealed for a site is not opened there while that one has agreed that another takes over from the home; that others have
// is nothing to it: what it opens before it agrees is known to the taker. I16.
func TestSealedAndAgreed(t *testing.T) {
	all := homes(t, "bj", "sh", "sz")
	bj, sh, sz := all[0], all[1], all[2]
	cell := eventstore.CellOf(bj.streamOf(bj))
	if err := bj.owner.Move(t.Context(), cell, sh.shard); err != nil {
		t.Fatal(err)
	}
	sh.learnSealed(t, bj)
	agree := Entry{site: "bj", kind: TakeoverAgreed, note: takeoverNote{Taker: "sz", Round: 1, Among: []string{"bj", "sh", "sz"}}}
	end := Entry{site: "bj", kind: TakeoverEnded, note: takeoverNote{Taker: "sz", Round: 1}}
	opened := func() bool {
		t.Helper()
		if err := sh.owner.openSealed(t.Context()); err != nil {
			t.Fatal(err)
		}
		c, _ := sh.fence.Cell(cell)
		return c.Home == sh.shard
	}
	if err := sh.owner.Enter(t.Context(), agree); err != nil {
		t.Fatal(err)
	}
	if opened() {
		t.Error("a cell of a home that sz is about to take over from is opened, and sz does not know it")
	}
	if err := sh.owner.Enter(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	sh.takeInAll(t)

	if err := sz.owner.Enter(t.Context(), agree); err != nil { // another attempt, to which sh has not agreed yet
		t.Fatal(err)
	}
	sh.learn(t, sz, 10)
	sh.takeInAll(t)
	if !opened() {
		t.Error("a cell is not opened by one that has agreed to nothing")
	}
}

// takeInAll has the owner know all that is in its log, as when it follows that.
func (h *home) takeInAll(t *testing.T) {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range h.store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := h.owner.takeIn(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

// Before it is known who owns the cells, nothing homed is written, and all else is.
func TestFenceThatKnowsNothing(t *testing.T) {
	f := NewFence(Shard{1, "bj"}, func(category string) bool { return category == "payment" })
	store := memstore.New(memstore.Options{Fence: f.Check})
	defer store.Close()
	h := &home{store: store}
	if err := h.pay(t.Context(), eventstore.Stream("payment", "1")); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a homed stream: %v", err)
	}
	if err := h.pay(t.Context(), eventstore.Stream("cart", "1")); err != nil {
		t.Errorf("another: %v", err)
	}
	if _, known := f.Cell(3); known {
		t.Error("the fence knows a cell")
	}
}

// pausedRead is a store whose first read goes on when it is told.
type pausedRead struct {
	eventstore.Store
	once       sync.Once
	read, goOn chan struct{}
}

func (p *pausedRead) Read(ctx context.Context, s eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range p.Store.Read(ctx, s, from) {
			if !yield(e, err) {
				return
			}
		}
		p.once.Do(func() { close(p.read); <-p.goOn })
	}
}

// Who follows the log while a cell moves does not open the fence again with what he read before. R7.
func TestMoveBesideFollowing(t *testing.T) {
	all := homes(t, "bj", "sh")
	bj := all[0]
	stream := eventstore.Stream("payment", "0")
	for i := 1; bj.owner.ring.Of(eventstore.CellOf(stream)) != bj.shard; i++ {
		stream = eventstore.Stream("payment", fmt.Sprint(i))
	}
	cell := eventstore.CellOf(stream)
	slow := &pausedRead{Store: bj.store, read: make(chan struct{}), goOn: make(chan struct{})}
	owner, err := NewOwner(t.Context(), bj.fence, bj.owner.ring, slow, nil)
	if err != nil {
		t.Fatal(err)
	}
	followed, moved := make(chan error, 1), make(chan error, 1)
	go func() { followed <- owner.settle(t.Context(), cell) }()
	<-slow.read
	go func() { moved <- owner.Move(t.Context(), cell, all[1].shard) }()
	close(slow.goOn)
	if err := errors.Join(<-followed, <-moved); err != nil {
		t.Fatal(err)
	}
	if err := bj.pay(t.Context(), stream); !errors.Is(err, eventstore.ErrNotHome) {
		t.Errorf("a payment behind the seal of its cell: %v", err)
	}
}

// settle takes in what the log says of a cell, and opens it if it was sealed for the shard.
func (o *Owner) settle(ctx context.Context, cell uint16) error {
	return errors.Join(o.learn(ctx, cell), o.openCell(ctx, cell))
}

// fullDisk is a store that takes no writes while it is full.
type fullDisk struct {
	*memstore.Store
	full atomic.Bool
}

func (f *fullDisk) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if f.full.Load() {
		return eventstore.Receipt{}, fmt.Errorf("%w: the disk is full", eventstore.ErrReadOnly)
	}
	return f.Store.Append(ctx, r)
}

// A shard that cannot open what it is given, for its disk is full, learns all the same of everything else, and opens it when there is
// room again. R7.
func TestFollowingWhileNothingCanBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := homes(t, "bj", "sh")
		bj, sh := all[0], all[1]
		var cells []uint16
		for cell := range uint16(eventstore.Cells) {
			if sh.owner.ring.Of(cell) == sh.shard && len(cells) < 2 {
				cells = append(cells, cell)
			}
		}
		disk := &fullDisk{Store: bj.store}
		owner, err := NewOwner(t.Context(), bj.fence, bj.owner.ring, disk, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		bj.owner = owner
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- owner.Run(ctx) }()
		disk.full.Store(true)
		for _, cell := range cells {
			if err := sh.owner.Move(t.Context(), cell, bj.shard); err != nil {
				t.Fatal(err)
			}
		}
		for e, err := range sh.store.ReadLog(t.Context(), eventstore.LogID{Site: "sh", Shard: sh.shard.Number, Incarnation: 1}, 0) {
			if err == nil {
				_, err = bj.store.Receive(t.Context(), []eventstore.Recorded{e})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for _, cell := range cells {
			if c, _ := bj.fence.Cell(cell); !c.Sealed || c.Next != bj.shard {
				t.Errorf("with a full disk %s knows of cell %d: %+v", bj.shard, cell, c)
			}
		}
		disk.full.Store(false)
		time.Sleep(time.Second)
		for _, cell := range cells {
			if c, _ := bj.fence.Cell(cell); c.Sealed || c.Home != bj.shard {
				t.Errorf("with room on its disk %s has of cell %d: %+v", bj.shard, cell, c)
			}
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
	})
}

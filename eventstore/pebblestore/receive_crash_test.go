package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/internal/reliability"
)

// elsewhere is the log of another site, which is the same whenever it is made.
type elsewhere struct {
	id      eventstore.LogID
	events  []eventstore.Recorded // with their chain
	batches []int                 // where each ends
}

// newElsewhere makes a log of batches that go into streams of their own and into those that all writers share. Its clock is
// so far from the one of now.
func newElsewhere(site string, batches int, ahead time.Duration) *elsewhere {
	return newElsewhereAt(site, batches, time.Now().Add(ahead))
}

// newElsewhereAt makes a log whose clock begins at a time.
func newElsewhereAt(site string, batches int, now time.Time) *elsewhere {
	ids := 0
	l := memstore.NewLog(memstore.Options{
		LogID: eventstore.LogID{Site: site, Incarnation: 3}, Clock: hlc.New(func() time.Time { return now }),
		NewID: func() uuid.UUID {
			ids++
			return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, site, ids))
		},
	})
	for i := range batches {
		now = now.Add(time.Millisecond)
		w := work{n: i}
		r := eventstore.Request{ID: site + w.id()}
		for j := range 1 + i%3 {
			id := fmt.Sprint(site, j)
			if j == 0 {
				id = fmt.Sprint(i % 2)
			}
			a := eventstore.StreamAppend{Stream: eventstore.Stream("shared", id)}
			for k := range 1 + i%4 {
				a.Events = append(a.Events, eventstore.Event{Type: "work.far.v1", Payload: fmt.Append(nil, site, i, j, k), Tags: []string{"far"}})
			}
			r.Appends = append(r.Appends, a)
		}
		if _, err := l.Accept(r); err != nil {
			panic(err)
		}
	}
	l.Sync()
	e := &elsewhere{id: l.ID(), events: l.Events()}
	for i := range e.events {
		if e.events[i].EndsBatch() {
			e.batches = append(e.batches, i+1)
		}
	}
	return e
}

// after returns copies of the next batches behind a seq, count of them; none at the end.
func (e *elsewhere) after(seq uint64, count int) []eventstore.Recorded {
	at, _ := slices.BinarySearch(e.batches, int(seq)+1)
	if at >= len(e.batches) {
		return nil
	}
	out := slices.Clone(e.events[seq:e.batches[min(at+count, len(e.batches))-1]])
	for i := range out {
		out[i].Position, out[i].Chain, out[i].Revises = eventstore.Position{}, eventstore.Hash{}, false
	}
	return out
}

// chainAt returns the chain after a seq.
func (e *elsewhere) chainAt(seq uint64) eventstore.Hash {
	if seq == 0 {
		return eventstore.ChainStart(e.id)
	}
	return e.events[seq-1].Chain
}

// held is what has been told of a store that receives: how far each log is held, and its own.
type held struct {
	logs []atomic.Uint64
	own  atomic.Uint64
}

// TestPowerLossWhileReceiving loses power while two other logs are received, several batches at once, among appends: of each
// log a prefix of whole batches is left, nothing that was acknowledged is lost, and each event is the one that was sent. It
// shows S33, S34 and S35.
func TestPowerLossWhileReceiving(t *testing.T) {
	lives := 6
	if *reliability.Long {
		lives = 150
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	logs := []*elsewhere{newElsewhere("far", 600, -time.Hour), newElsewhere("late", 600, time.Hour)}
	disk := vfs.NewCrashableMem()
	images := 0
	for life := range lives {
		if !reliability.TimeLeft(t) || t.Failed() {
			break
		}
		if life%3 == 0 {
			disk = vfs.NewCrashableMem()
		}
		taken := receiveUntilFull(t, disk, logs, rng)
		for _, one := range taken {
			images++
			o := smallSizes(rng)
			o.FS = one.disk
			examineReceived(t, "data/store", &o, one.heldOf, logs)
		}
		disk = taken[rng.IntN(len(taken))].disk
	}
	t.Logf("%d images", images)
}

// heldOf is held at a moment.
type heldOf struct {
	logs []uint64
	own  uint64
}

type heldImage struct {
	heldOf
	disk *vfs.MemFS
}

// receiveUntilFull opens a store, and has it append and receive until there are images enough.
func receiveUntilFull(t *testing.T, disk *vfs.MemFS, logs []*elsewhere, rng *rand.Rand) (images []heldImage) {
	t.Helper()
	const most = 20
	told := held{logs: make([]atomic.Uint64, len(logs))}
	var mu sync.Mutex // guards images and rng
	var full atomic.Bool
	take := func() {
		mu.Lock()
		defer mu.Unlock()
		if full.Load() {
			return
		}
		one := heldImage{heldOf: heldOf{own: told.own.Load()}}
		for i := range told.logs {
			one.logs = append(one.logs, told.logs[i].Load())
		}
		one.disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(5) * 25, RNG: rng})
		images = append(images, one)
		full.Store(len(images) >= most)
	}
	o := smallSizes(rng)
	var opened atomic.Bool
	o.FS = watched(disk, func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if opened.Load() && strings.HasPrefix(op.Path, "data/store") {
				take()
			}
		}
		return nil
	})
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	opened.Store(true)
	ctx := t.Context()
	var all sync.WaitGroup
	for i, l := range logs {
		h, err := s.logHead(ctx, l.id)
		if err != nil {
			t.Fatal(err)
		}
		told.logs[i].Store(h.Seq)
		all.Go(func() { receiveLog(t, s, l, &told.logs[i], &full, take) })
	}
	for w := range 2 {
		all.Go(func() {
			for n := 0; !full.Load(); n++ {
				stream := eventstore.Stream("shared", fmt.Sprint(n%2))
				if _, err := s.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
					Stream: stream, Events: []eventstore.Event{{Type: "work.near.v1", Payload: fmt.Append(nil, w, n)}},
				}}}); err != nil {
					t.Errorf("append: %v", err)
					full.Store(true)
					return
				}
				state, err := s.Log(ctx)
				if err != nil {
					t.Errorf("log: %v", err)
				}
				for own := told.own.Load(); own < state.Seq && !told.own.CompareAndSwap(own, state.Seq); own = told.own.Load() {
				}
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return images
}

// receiveLog has a store receive a log from where it holds it, with several calls under way, until there are images enough.
func receiveLog(t *testing.T, s *Store, l *elsewhere, told *atomic.Uint64, full *atomic.Bool, take func()) {
	next := told.Load()
	for !full.Load() {
		var calls sync.WaitGroup
		for range 4 {
			events := l.after(next, 1+int(next)%3)
			if len(events) == 0 {
				take() // all is there
				break
			}
			last := events[len(events)-1].Dot.Seq
			next = last
			calls.Go(func() {
				for {
					_, err := s.Receive(context.Background(), slices.Clone(events))
					if errors.Is(err, eventstore.ErrGap) { // that before it has not come to its turn
						time.Sleep(50 * time.Microsecond)
						continue
					}
					if err != nil {
						t.Errorf("receive: %v", err)
						full.Store(true)
						return
					}
					for was := told.Load(); was < last && !told.CompareAndSwap(was, last); was = told.Load() {
					}
					return
				}
			})
		}
		calls.Wait()
	}
}

// examineReceived compares what is left in a folder with what was sent and with what was told.
func examineReceived(t *testing.T, dir string, o *Options, one heldOf, logs []*elsewhere) {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	ctx := t.Context()
	state, err := s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if state.Seq < one.own {
		t.Errorf("the log has %d events of its own, %d were acknowledged", state.Seq, one.own)
	}
	total := state.Seq
	for i, l := range logs {
		h, err := s.logHead(ctx, l.id)
		if err != nil {
			t.Fatal(err)
		}
		total += h.Seq
		if h.Seq < one.logs[i] {
			t.Errorf("%s is held up to seq %d, %d was acknowledged", l.id, h.Seq, one.logs[i])
		}
		if h.Chain != l.chainAt(h.Seq) {
			t.Errorf("%s is held up to seq %d with chain %x, it has %x", l.id, h.Seq, h.Chain[:8], l.chainAt(h.Seq))
		}
		if h.Seq > 0 && !l.events[h.Seq-1].EndsBatch() {
			t.Errorf("%s is held up to seq %d, in the middle of a batch", l.id, h.Seq)
		}
		seq := uint64(0)
		for e, err := range s.ReadLog(ctx, l.id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if seq++; e.Dot.Seq != seq || e.Chain != l.chainAt(seq) {
				t.Fatalf("event %s follows seq %d of %s with another chain", e.Dot, seq-1, l.id)
			}
		}
		if seq != h.Seq {
			t.Errorf("%d events of %s are read, its head is %d", seq, l.id, h.Seq)
		}
	}
	if total != state.Durable.LSN {
		t.Errorf("the log has %d events, the logs that it holds %d", state.Durable.LSN, total)
	}
	for _, id := range []string{"0", "1"} {
		var before *eventstore.Recorded
		for e, err := range s.Read(ctx, eventstore.Stream("shared", id), 1) {
			if err != nil {
				t.Fatal(err)
			}
			if before != nil && before.CompareCanonical(&e) >= 0 {
				t.Fatalf("stream %s has %s before %s", id, before.Dot, e.Dot)
			}
			before = &e
		}
	}
	report, err := s.Verify(ctx, nil)
	if err != nil || len(report.Faults) > 0 {
		t.Errorf("verify: %v, %v", report.Faults, err)
	}
}

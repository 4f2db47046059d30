package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/internal/reliability"
)

// powered is a store on a disk in memory that loses power.
type powered struct {
	t   *testing.T
	rng *rand.Rand // of the one who takes the power

	mu    sync.RWMutex // guards what follows
	store *Store
	disk  *vfs.MemFS
	life  int

	held   atomic.Bool // the next sync of the WAL waits until the power is gone
	inSync chan struct{}
	closed sync.WaitGroup // stores of earlier lives
}

// ask implements target.
func (p *powered) ask(_ int, in linearInput) (linearOutput, bool) {
	p.mu.RLock()
	s, life := p.store, p.life
	p.mu.RUnlock()
	out := in.perform(context.Background(), s)
	p.mu.RLock()
	defer p.mu.RUnlock()
	return out, life == p.life
}

// open opens the store on a disk. Syncs of its WAL take a moment, so that there is something that is not yet durable.
func (p *powered) open(disk *vfs.MemFS) {
	o := smallSizes(p.rng)
	slow := rand.New(rand.NewPCG(p.rng.Uint64(), 1))
	var mu sync.Mutex // guards slow
	o.FS = watched(disk, func(op errorfs.Op) error {
		if !isWALSync(op) {
			return nil
		}
		if p.held.CompareAndSwap(true, false) {
			p.inSync <- struct{}{}
			time.Sleep(3 * time.Millisecond)
			return nil
		}
		mu.Lock()
		pause := slow.IntN(300)
		mu.Unlock()
		time.Sleep(time.Duration(pause) * time.Microsecond)
		return nil
	})
	s, err := Open("data/store", &o)
	if err != nil {
		p.t.Errorf("open after a power loss: %v", err)
		return
	}
	p.store, p.disk = s, disk
}

// losePower takes the power away in the middle of a sync, a moment after it began: what is told before its time is told by
// then.
func (p *powered) losePower() {
	p.held.Store(true)
	select {
	case <-p.inSync:
		time.Sleep(time.Duration(p.rng.IntN(1500)) * time.Microsecond)
	case <-time.After(time.Second): // nobody appends any more
		p.held.Store(false)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life++
	old := p.store
	p.closed.Go(func() {
		if err := old.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
	})
	p.open(p.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * p.rng.IntN(5), RNG: p.rng}))
}

// TestLinearizable wants every history of concurrent requests, with expected versions, conditions, repetitions and reads,
// under power losses in the middle of syncs, to be one that a single, immortal store could have given. It is T14 of
// docs/reliability.md, and shows S1, S4, S6, S7 and S16.
func TestLinearizable(t *testing.T) {
	count, size := 25, 1000
	if *reliability.Long {
		count, size = 2000, 2000
	}
	const deaths = 4
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := histories{result: reliability.Result{Test: "T14", What: "clients in process, power lost in the middle of syncs", Seed: seed}, size: size}
	h.make(t, count, 20, func(n int) {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		p := &powered{t: t, rng: rand.New(rand.NewPCG(seed, rng.Uint64())), inSync: make(chan struct{}, 1)}
		p.open(vfs.NewCrashableMem())
		c := newClients(p, rng, size, deaths)
		c.run(p.losePower)
		p.closed.Wait()
		what := fmt.Sprint("history ", n)
		h.judge(t, what, c, p.store, p.life)
		h.verify(t, what, p.store)
		if err := p.store.Close(); err != nil {
			t.Error(err)
		}
	})
}

package pebblestore

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// image is what a disk holds after a power loss, and what had been told before.
type image struct {
	disk   *vfs.MemFS
	ledger *ledger
	atSync bool
}

// camera takes images of a disk in memory before its syncs, and whenever it is asked to.
type camera struct {
	disk   *vfs.MemFS
	ledger *ledger
	most   int // images
	every  int // a sync of so many, drawn, has an image

	mu     sync.Mutex // guards what follows; images are taken one at a time
	rng    *rand.Rand
	images []image
	full   atomic.Bool // no image is taken any more
}

// fs returns the disk, seen through the camera.
func (c *camera) fs() vfs.FS {
	return watched(c.disk, func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if strings.HasPrefix(op.Path, "data/store") {
				c.take(true)
			}
		}
		return nil
	})
}

// take copies the ledger first: what is told later need not be in the image.
func (c *camera) take(atSync bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full.Load() || atSync && c.rng.IntN(c.every) > 0 {
		return
	}
	told := c.ledger.copy()
	disk := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rng.IntN(5) * 25, RNG: c.rng})
	// Asked may have been more by the time of the image.
	c.ledger.mu.Lock()
	told.asked = c.ledger.asked
	c.ledger.mu.Unlock()
	c.images = append(c.images, image{disk, told, atSync})
	if len(c.images) >= c.most {
		c.full.Store(true)
	}
}

// smallSizes draws options under which everything that seldom happens happens often.
func smallSizes(rng *rand.Rand) Options {
	return Options{
		Logger: quietLog, IndexBatch: []int{1, 3, 50, 500}[rng.IntN(4)], MemTableBytes: 16 << 10 << rng.IntN(4),
		TailBytes: []int{1, 5000, 1 << 20}[rng.IntN(3)], MaxGroupEvents: []int{1, 8, 1000}[rng.IntN(3)],
		CacheBytes: 1 << 20, CachedStreams: []int{1, 1000}[rng.IntN(2)], BallastBytes: littleBallast,
	}
}

// TestPowerLoss loses power at every sync of a log's lives and at random moments, keeps 0 to 100 % of what was not synced,
// and examines what is left. A life goes on from an image of the one before, so that logs are recovered that were recovered.
// It is T2 of docs/reliability.md, and shows S2, S3, S4, S5, S7 and S16.
func TestPowerLoss(t *testing.T) {
	wanted := 400
	if *reliability.Long {
		wanted = 10_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	result := reliability.Result{Test: "T2", What: "files in memory", Seed: seed}
	var f findings
	var took []time.Duration
	atSync, lives := 0, 0
	disk, l := vfs.NewCrashableMem(), newLedger()
	for ; result.Cycles < wanted && f.count() == 0 && reliability.TimeLeft(t); lives++ {
		if lives%4 == 0 { // logs that grow for ever would make the examination slow
			disk, l = vfs.NewCrashableMem(), newLedger()
		}
		c := &camera{disk: disk, ledger: l, most: 40, every: 1 + lives%3, rng: rand.New(rand.NewPCG(seed, uint64(lives)))}
		liveUntilFull(t, c, smallSizes(rng))
		for _, one := range c.images {
			if one.atSync {
				atSync++
			}
			began := time.Now()
			o := smallSizes(rng)
			o.FS = one.disk
			s, err := Open("data/store", &o)
			if err != nil {
				note(&f.lost, "open: %v", err)
				continue
			}
			took = append(took, time.Since(began))
			f.add(one.ledger.examine(context.Background(), s))
			if err := s.Close(); err != nil {
				note(&f.violations, "close: %v", err)
			}
			result.Cycles++
			result.Acked = max(result.Acked, len(one.ledger.told))
		}
		last := c.images[rng.IntN(len(c.images))]
		disk, l = last.disk, last.ledger
	}
	f.report(t, "after a power loss")
	result.Lost, result.Duplicated, result.Phantom, result.Violations = len(f.lost), len(f.duplicated), len(f.phantom), len(f.violations)
	result.P50, result.P99 = reliability.Percentiles(took)
	result.Extra = map[string]any{"images at a sync": atSync, "lives": lives}
	result.Print(t)
}

// liveUntilFull opens a store on the camera's disk and lets all writers append, and a reader follow, until the camera has
// its images.
func liveUntilFull(t *testing.T, c *camera, o Options) {
	t.Helper()
	o.FS = c.fs()
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	ctx := context.Background()
	state, err := s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var life sync.WaitGroup
	for w := range workWriters {
		life.Go(func() {
			for !c.full.Load() {
				if err := c.ledger.append(ctx, s, w); err != nil {
					t.Errorf("append: %v", err)
					c.full.Store(true)
				}
			}
		})
	}
	life.Go(func() {
		pace := rand.New(rand.NewPCG(1, uint64(c.most)))
		for !c.full.Load() {
			time.Sleep(time.Duration(pace.IntN(2000)) * time.Microsecond)
			c.take(false)
		}
	})
	followed := make(chan uint64)
	following, stop := context.WithCancel(ctx)
	go func() { followed <- follow(following, t, s, state.Durable) }()
	life.Wait()
	end, err := s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if last := <-followed; last > end.Durable.LSN {
		t.Errorf("a subscriber was shown lsn %d of %d", last, end.Durable.LSN)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// follow subscribes after a position and wants every event, each once and in order (S8), until ctx ends. It returns the lsn
// of the last one.
func follow(ctx context.Context, t *testing.T, s *Store, after eventstore.Position) uint64 {
	sub, err := s.Subscribe(ctx, after, eventstore.Filter{MaxChunk: 7})
	if err != nil && ctx.Err() != nil { // a life so short that it was over before
		return after.LSN
	}
	if err != nil {
		t.Errorf("subscribe: %v", err)
		return 0
	}
	defer sub.Close()
	for last := after.LSN; ; {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return last
		}
		for _, e := range chunk.Events {
			if last++; e.Position.LSN != last {
				t.Errorf("a subscriber got lsn %d after %d", e.Position.LSN, last-1)
				return last
			}
		}
		if chunk.Position.LSN != last {
			t.Errorf("a subscriber's chunk ends at lsn %d, and says %d", last, chunk.Position.LSN)
			return last
		}
	}
}

package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// manyTables returns a store with tables in several levels of both databases, some of its events only in the WAL, and a
// copy of it, which is the source to repair it from.
func manyTables(t *testing.T) (files *vfs.MemFS, s *Store, source Source) {
	t.Helper()
	files = vfs.NewCrashableMem()
	o := Options{MemTableBytes: 128 << 10, IndexBatch: 300}
	s = openMem(t, files, o)
	appendMany(t, s, 600)
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.log.Compact(t.Context(), firstBlock, blockKey(800), false); err != nil {
		t.Fatal(err)
	}
	appendMany(t, s, 300)
	if err := errors.Join(s.flush(), s.log.Flush()); err != nil {
		t.Fatal(err)
	}
	appendMany(t, s, 20) // stay in the WAL
	copied := openMem(t, files.CrashClone(vfs.CrashCloneCfg{}), Options{})
	return files, s, copied
}

func appendMany(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		r := crashRequest(fmt.Sprintf("%d-%d", s.durable.Load(), i), i%10, i)
		r.Appends[0].Events[0].Payload = bytes.Repeat([]byte{byte(i)}, 300)
		if _, err := s.Append(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// live lists the files of both databases' tables, as Pebble names them: a scrub that passes over some of them must not be
// the one who says which there are.
func live(t *testing.T, s *Store) (paths []string) {
	t.Helper()
	for name, db := range map[string]*pebble.DB{"log": s.log, "index": s.index.db} {
		levels, err := db.SSTables()
		if err != nil {
			t.Fatal(err)
		}
		for _, tables := range levels {
			for _, table := range tables {
				paths = append(paths, fmt.Sprintf("data/store/%s/%s.sst", name, table.BackingSSTNum))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths) // a file may be several tables
}

func scrubbed(t *testing.T, s *Store, o ScrubOptions) ScrubReport {
	t.Helper()
	o.BytesPerSecond = -1
	report, err := s.Scrub(context.Background(), o)
	if err != nil {
		t.Fatalf("scrub: %v", err)
	}
	return report
}

// A bit that flips anywhere in a table of either database is found by a scrub, although what was read before is cached, and
// is repaired: the log's events come from the source, and are those that were lost. It is T4 of docs/reliability.md, and
// shows S26 and S27.
func TestScrubFindsAndRepairsRottenTables(t *testing.T) {
	logs, flips := 1, 16
	if *reliability.Long {
		logs, flips = 12, 50
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	result := reliability.Result{Test: "T4", What: "a bit flipped in a live table, scrubbed and repaired from a copy", Seed: seed}
	found, repaired, inLog := 0, 0, 0
	for n := 0; n < logs && reliability.TimeLeft(t) && !t.Failed(); n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			result.Cycles += flips
			f, r, l := flipAndRepair(t, rand.New(rand.NewPCG(seed, uint64(n))), flips)
			found, repaired, inLog = found+f, repaired+r, inLog+l
		})
	}
	result.Faults, result.Violations = result.Cycles, 2*result.Cycles-found-repaired
	result.Extra = map[string]any{"found": found, "repaired": repaired, "in_the_log": inLog}
	result.Print(t)
}

// flipAndRepair flips bits in the tables of a store, one after another, and returns how many were found and repaired, and how
// many of them were in the log.
func flipAndRepair(t *testing.T, rng *rand.Rand, flips int) (found, repaired, inLog int) {
	t.Helper()
	files, s, source := manyTables(t)
	want := everything(t, s)
	tables := live(t, s)
	report := scrubbed(t, s, ScrubOptions{})
	if len(report.Faults) > 0 || report.WALs == 0 || report.Bytes == 0 {
		t.Fatalf("scrub of a sound store: %+v", report)
	}
	if now := live(t, s); len(tables) < 6 || slices.Equal(tables, now) && report.Tables != len(tables) { // else some were compacted
		t.Fatalf("the scrub has read %d tables, there are %d", report.Tables, len(tables))
	}
	for n := range flips {
		paths := live(t, s)
		path := paths[rng.IntN(len(paths))]
		share := rng.Float64()
		flip(t, files, path, share)
		database := strings.Split(path, "/")[2]
		report := scrubbed(t, s, ScrubOptions{Repair: true, Source: source})
		i := slices.IndexFunc(report.Faults, func(f ScrubFault) bool { return f.Database == database && strings.HasSuffix(path, "/"+f.File) })
		if i < 0 {
			t.Errorf("flip %d at %.4f of %s was not found: %+v", n, share, path, report)
			flip(t, files, path, share) // is no other bit, most of the time: the table stays damaged
			continue
		}
		found++
		if report.Unrepaired() > 0 {
			t.Errorf("flip %d at %.4f of %s was not repaired: %s", n, share, path, report.Faults[i].String())
			return found, repaired, inLog
		}
		repaired++
		if database == "log" {
			inLog++
		}
		if again := scrubbed(t, s, ScrubOptions{}); len(again.Faults) > 0 {
			t.Errorf("flip %d at %.4f of %s: after the repair: %s", n, share, path, again.Faults[0].String())
			return found, repaired, inLog
		}
		if n%8 == 0 {
			appendMany(t, s, 5) // it goes on, and so does the copy
			want = everything(t, s)
			source = openMem(t, files.CrashClone(vfs.CrashCloneCfg{}), Options{})
		}
	}
	if inLog == 0 || inLog == flips {
		t.Errorf("%d of %d flips were in the log", inLog, flips)
	}
	for _, fault := range verify(t, s).Faults {
		t.Errorf("verify: %s", fault)
	}
	if got := everything(t, s); !slices.Equal(got, want) {
		t.Error("the repaired log is not the one that was written")
	}
	image := files.CrashClone(vfs.CrashCloneCfg{})
	again := openMem(t, image, Options{})
	if got := everything(t, again); !slices.Equal(got, want) {
		t.Error("after a power loss the repaired log is not the one that was written")
	}
	checkRecovered(t, again, nil)
	return found, repaired, inLog
}

// everything returns the chain after each event: equal lists are of equal logs.
func everything(t *testing.T, s *Store) (chain []eventstore.Hash) {
	t.Helper()
	for e, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{Chain: true}) {
		if err != nil {
			t.Fatalf("read event %d: %v", len(chain)+1, err)
		}
		chain = append(chain, e.Chain)
	}
	return chain
}

// A bit that flips in the part of the WAL that is still needed is found while the store is open, and repaired from memory.
// Shows S26.
func TestScrubFindsRottenWAL(t *testing.T) {
	for _, share := range []float64{0, 0.2, 0.5, 0.8} {
		files := vfs.NewCrashableMem()
		s := openMem(t, files, Options{})
		appendMany(t, s, 200)
		want := everything(t, s)
		wal := newestWAL(t, files)
		flip(t, files, wal, share)
		if report := scrubbed(t, s, ScrubOptions{}); len(report.Faults) != 1 || report.Faults[0].LastLSN != uint64(len(want)) {
			t.Fatalf("flip at %.1f of the WAL: %+v", share, report)
		}
		if report := scrubbed(t, s, ScrubOptions{Repair: true}); report.Unrepaired() > 0 {
			t.Fatalf("flip at %.1f of the WAL: %s", share, report.Faults[0].String())
		}
		appendMany(t, s, 20)
		want = everything(t, s)
		again := openMem(t, files.CrashClone(vfs.CrashCloneCfg{}), Options{})
		if got := everything(t, again); !slices.Equal(got, want) {
			t.Errorf("flip at %.1f of the WAL: %d of %d events are left after a power loss", share, len(got), len(want))
		}
	}
}

// Without Kafka a scrub says which events are lost and what to do, and changes nothing; with another log's events it does
// not put them in. Shows S27.
func TestScrubTakesNothingButWhatWasLost(t *testing.T) {
	files, s, _ := manyTables(t)
	tables, err := tablesOf(s.log)
	if err != nil {
		t.Fatal(err)
	}
	largest := slices.MaxFunc(tables, func(a, b scrubTable) int { return int(a.size - b.size) })
	image := files.CrashClone(vfs.CrashCloneCfg{})
	flip(t, image, "data/store/log/"+largest.name, 0.5)
	reopened := openMem(t, image, Options{}) // with nothing cached
	report := scrubbed(t, reopened, ScrubOptions{Repair: true})
	if report.Unrepaired() != 1 || !containsAll(report.Faults[0].Left, []string{"lsn", "are lost", "put back"}) {
		t.Fatalf("repair without a source: %+v", report.Faults)
	}
	t.Log(report.Faults[0].String())
	other := openMem(t, vfs.NewMem(), Options{})
	appendMany(t, other, 1000)
	appendMany(t, other, 1000)
	report = scrubbed(t, reopened, ScrubOptions{Repair: true, Source: other})
	if report.Unrepaired() != 1 || !strings.Contains(report.Faults[0].Left, "other events") {
		t.Fatalf("repair from another log: %+v", report.Faults)
	}
	if _, err := reopened.Append(t.Context(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
		t.Errorf("append: %v", err)
	}
}

// The index is made anew while events are appended and read.
func TestIndexIsRenewedUnderLoad(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{IndexBatch: 100})
	ctx, cancel := context.WithCancel(t.Context())
	f := &filler{acked: map[string]eventstore.Receipt{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx, s, "load")
	}()
	for n := range 5 {
		await(t, "some appends", func() bool { return len(f.all()) > (n+1)*100 })
		if err := s.renewIndex(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
	for _, err := range f.strange {
		t.Errorf("append: %v", err)
	}
	checkRecovered(t, s, f.all())
	if fmt.Sprint(verify(t, s).Faults) != "[]" {
		t.Error("the renewed index does not verify")
	}
}

// Who waits for a scrub that is under way need not wait to its end.
func TestScrubWaitsAsLongAsItMay(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	appendMany(t, s, 5)
	ctx, cancel := context.WithCancel(t.Context())
	var second error
	report, err := s.Scrub(t.Context(), ScrubOptions{BytesPerSecond: -1, Progress: func(int64, int64) {
		cancel()
		_, second = s.Scrub(ctx, ScrubOptions{})
	}})
	if err != nil || report.Bytes == 0 {
		t.Fatalf("scrub: %+v, %v", report, err)
	}
	if !errors.Is(second, context.Canceled) {
		t.Errorf("a second scrub, cancelled: %v", second)
	}
}

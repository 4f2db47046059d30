package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// specimen is a disk with a store on it, and what the store holds.
type specimen struct {
	disk   *vfs.MemFS
	events []eventstore.Recorded
	marked uint64 // lsn up to which the watermark had come; what is lost beyond it may go unseen
	files  []string
	heavy  string // the largest file of the log, which has most of what counts
}

// newSpecimen makes a store with tables, a WAL and an index, and takes its disk: after Close, or as a power loss leaves it
// right after everything was synced. Some of it came after the last watermark.
func newSpecimen(t *testing.T, rng *rand.Rand, closed bool) *specimen {
	t.Helper()
	const writes = 240
	x := &specimen{}
	disk := vfs.NewCrashableMem()
	o := Options{FS: disk, Logger: quietLog, IndexBatch: 40, MemTableBytes: 128 << 10}
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	for i := range writes {
		if err := l.append(context.Background(), s, rng.IntN(workWriters)); err != nil {
			t.Fatal(err)
		}
		if i == writes/3 {
			if err := s.flush(); err != nil { // so that there are tables
				t.Fatal(err)
			}
		}
		if i == writes-20 {
			if err := s.watermark.write(mark{s.recent.state(), s.id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for e, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		x.events = append(x.events, e)
	}
	if closed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		x.marked = uint64(len(x.events))
	}
	x.disk = disk.CrashClone(vfs.CrashCloneCfg{})
	if !closed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, newest, _, _, err := openWatermark(x.disk, "data/store/WATERMARK")
		if err != nil {
			t.Fatal(err)
		}
		x.marked = newest.lsn
	}
	most := int64(0)
	for _, dir := range []string{"data/store", "data/store/log", "data/store/index"} {
		names, err := x.disk.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := x.disk.PathJoin(dir, name)
			info, err := x.disk.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() || name == "LOCK" || name == "BALLAST" { // nothing is in them
				continue
			}
			x.files = append(x.files, path)
			if strings.HasPrefix(path, "data/store/log/") && info.Size() > most {
				x.heavy, most = path, info.Size()
			}
		}
	}
	slices.Sort(x.files)
	return x
}

// mutate damages one file, drawn, in a way that is drawn, and says what it did.
func mutate(t *testing.T, disk *vfs.MemFS, path string, rng *rand.Rand) string {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var what string
	kind := rng.IntN(4)
	if len(b) == 0 {
		kind = 3
	}
	switch kind {
	case 0, 1:
		at := rng.IntN(len(b))
		b[at] ^= 1 << rng.IntN(8)
		what = fmt.Sprintf("%s: bit flipped at byte %d of %d", path, at, len(b))
	case 2:
		at := rng.IntN(len(b)) &^ 511
		size := 512 << rng.IntN(4)
		clear(b[at:min(at+size, len(b))])
		what = fmt.Sprintf("%s: %d bytes zeroed at %d of %d", path, size, at, len(b))
	case 3:
		if len(b) == 0 || rng.IntN(8) == 0 {
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
			return path + ": removed"
		}
		at := rng.IntN(len(b))
		what = fmt.Sprintf("%s: torn off at %d of %d", path, at, len(b))
		b = b[:at]
	}
	w, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write(b); err == nil {
		err = w.Sync()
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return what
}

// What became of a damaged store.
const (
	fateRefused  = "refused"                        // it does not open
	fateReadOnly = "opened for reading only"        // and what is there is right
	fateSaid     = "opened, and the damage is said" // by Verify, or by the reads that touch it
	fateWhole    = "whole"                          // repaired, or it was nothing that counts
	fateUnmarked = "lost what no watermark knew of" // within 50 ms of a power loss
	fateSilent   = "silent"
)

// fate opens a damaged store and says what became of it, and why it is that.
func (x *specimen) fate(disk *vfs.MemFS) (fate, why string) {
	ctx := context.Background()
	s, err := Open("data/store", &Options{FS: disk, Logger: quietLog, MemTableBytes: 128 << 10, CacheBytes: 1 << 20})
	if err != nil {
		return fateRefused, err.Error()
	}
	defer s.Close()
	state, err := s.Log(ctx)
	if err != nil {
		return fateRefused, err.Error()
	}
	end := state.Durable.LSN
	if end > uint64(len(x.events)) {
		return fateSilent, fmt.Sprintf("it has %d events of %d", end, len(x.events))
	}
	said := ""
	seen := 0
	for e, err := range s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			said = err.Error()
			break
		}
		if want := &x.events[seen]; e.Position != want.Position || e.ID != want.ID || e.HLC != want.HLC || string(e.Payload) != string(want.Payload) || e.Stream != want.Stream || e.Version != want.Version {
			return fateSilent, fmt.Sprintf("it reads another event at lsn %d", e.Position.LSN)
		}
		seen++
	}
	if said == "" && uint64(seen) != end {
		return fateSilent, fmt.Sprintf("it reads %d events and says that it has %d", seen, end)
	}
	if said == "" {
		var wrong string
		if wrong, said = x.indexAnswers(ctx, s, end); wrong != "" {
			return fateSilent, wrong
		}
	}
	writable := s.writable() == nil
	switch {
	case end < x.marked && writable:
		return fateSilent, fmt.Sprintf("it takes appends with %d events of %d, and the watermark had come to %d", end, len(x.events), x.marked)
	case !writable:
		return fateReadOnly, (*s.readOnly.Load()).Error()
	}
	if said == "" {
		report, err := s.Verify(ctx, nil)
		if err != nil {
			said = err.Error()
		}
		if len(report.Faults) > 0 {
			said = report.Faults[0]
		}
	}
	switch {
	case said != "":
		return fateSaid, said
	case end < uint64(len(x.events)):
		return fateUnmarked, fmt.Sprintf("%d events of %d, the watermark had come to %d", end, len(x.events), x.marked)
	}
	return fateWhole, ""
}

// indexAnswers asks for streams and receipts and says which answer is wrong, or what error came in place of one: the first,
// for Pebble looks long for the bit that would put a damaged block right.
func (x *specimen) indexAnswers(ctx context.Context, s *Store, end uint64) (wrong, said string) {
	versions := map[eventstore.StreamID]uint64{}
	for i := range x.events[:end] {
		versions[x.events[i].Stream] = x.events[i].Version
	}
	for stream, version := range versions {
		got, err := s.Version(ctx, stream)
		if err != nil {
			return "", err.Error()
		}
		if got != version {
			return fmt.Sprintf("it says that stream %s stands at version %d, which is %d", stream, got, version), ""
		}
		n := uint64(0)
		for e, err := range s.Read(ctx, stream, 1) {
			if err != nil {
				return "", err.Error()
			}
			if n++; e.Version != n || e.Stream != stream {
				return fmt.Sprintf("it reads version %d of %s as version %d of %s", e.Version, e.Stream, n, stream), ""
			}
		}
		if n != version {
			return fmt.Sprintf("it reads %d events of stream %s, which has %d", n, stream, version), ""
		}
	}
	for batch := range batchesOf(x.events[:end]) {
		want := eventstore.ReceiptOf(batch)
		got, _, err := s.Receipt(ctx, "", batch[0].CommandID)
		if errors.Is(err, eventstore.ErrNotFound) {
			return fmt.Sprintf("it does not know request %s", batch[0].CommandID), ""
		}
		if err != nil {
			return "", err.Error()
		}
		if placeOf(got) != placeOf(want) {
			return fmt.Sprintf("it has the receipt of request %s at %v, which stands at %v", batch[0].CommandID, placeOf(got), placeOf(want)), ""
		}
	}
	return "", ""
}

// TestMutations flips bits, zeroes pages, tears off ends and removes files, in every file of a store, and wants none of it
// to be silent: the store is refused, takes no appends, says what is damaged, or has lost only what came after its last
// watermark. It is T3 of docs/reliability.md, and shows S11, S12 and S13.
func TestMutations(t *testing.T) {
	mutations := 150
	if *reliability.Long {
		mutations = 10_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	result := reliability.Result{Test: "T3", What: "log, index and watermark of a closed store, and of one that lost power", Seed: seed, Extra: map[string]any{}}
	fates := map[string]int{}
	var x *specimen
	for ; result.Cycles < mutations && reliability.TimeLeft(t); result.Cycles++ {
		if result.Cycles%75 == 0 {
			x = newSpecimen(t, rng, result.Cycles%150 == 0)
		}
		disk := x.disk.CrashClone(vfs.CrashCloneCfg{})
		path := x.files[rng.IntN(len(x.files))]
		if rng.IntN(2) == 0 {
			path = x.heavy
		}
		what := mutate(t, disk, path, rng)
		fate, why := x.fate(disk)
		fates[fate]++
		if fate == fateSilent {
			result.Violations++
			t.Errorf("mutation %d: %s: %s", result.Cycles, what, why)
		}
		if testing.Verbose() && result.Cycles < 50 {
			t.Logf("%s: %s %s", what, fate, why)
		}
	}
	for fate, n := range fates {
		result.Extra[fate] = n
	}
	result.Print(t)
	if fates[fateRefused] == 0 || fates[fateWhole] == 0 || fates[fateReadOnly] == 0 {
		t.Errorf("fates are %v: some of them should have come up", fates)
	}
}

package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// copies is another site that has all events of some logs.
type copies map[eventstore.LogID][]eventstore.Recorded

func (c copies) String() string { return "another site" }

// Events implements Holder. Like a site, it gives whole batches.
func (c copies) Events(_ context.Context, log eventstore.LogID, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range c[log][min(after, uint64(len(c[log]))):] {
			if e.Batch.FirstSeq > through {
				return
			}
			e.Position, e.Chain, e.Revises = eventstore.Position{}, eventstore.Hash{}, false
			if !yield(e, nil) {
				return
			}
		}
	}
}

// changed returns a site whose event of a log is another one.
func (c copies) changed(log eventstore.LogID, seq uint64) copies {
	out := copies{}
	for id, events := range c {
		out[id] = slices.Clone(events)
	}
	e := &out[log][seq-1]
	e.Payload = append(bytes.Clone(e.Payload), '!')
	return out
}

func copiesOf(t *testing.T, s *Store) copies {
	t.Helper()
	heads, err := s.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := copies{}
	for _, h := range heads {
		if out[h.Log], err = collectEvents(s.ReadLog(t.Context(), h.Log, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// mixedTables returns the files of a closed store whose log has events of others in several tables, how it answered, and a site that
// has all of it. The log is in its second life.
func mixedTables(t *testing.T) (files *vfs.MemFS, logs []*elsewhere, want map[string]any, others copies) {
	t.Helper()
	logs = []*elsewhere{newElsewhere("far", 400, -time.Hour), newElsewhere("late", 400, time.Hour)}
	files = vfs.NewCrashableMem()
	o := Options{IndexBatch: 200, MemTableBytes: 256 << 10}
	s := openMem(t, files, o)
	for range 4 {
		fillMixed(t, s, 40, logs...)
		if err := errors.Join(s.flush(), s.log.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.FS, o.Logger = files, quietLog
	if err := BeginLife("data/store", 2, &o); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, files, o)
	for n := range 8 {
		fillMixed(t, s, 30+n, logs...)
		if err := errors.Join(s.flush(), s.log.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	verified(t, s)
	want, others = mixedViews(t, s, logs...), copiesOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return files, logs, want, others
}

// middleTables returns the tables of the log but the first, which says what log it is, and the last.
func middleTables(t *testing.T, s *Store) []scrubTable {
	t.Helper()
	tables, err := tablesOf(s.log)
	if err != nil {
		t.Fatal(err)
	}
	tables = slices.DeleteFunc(tables, func(o scrubTable) bool { _, block := blockKeyLSN(o.first); return !block })
	slices.SortFunc(tables, func(a, b scrubTable) int { return bytes.Compare(a.first, b.first) })
	if len(tables) < 4 {
		t.Fatalf("the log has %d tables", len(tables))
	}
	return tables[:len(tables)-1]
}

// zero makes a file one of zeros, of the same size.
func zero(t *testing.T, files vfs.FS, name string) {
	t.Helper()
	info, err := files.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(files, name, make([]byte, info.Size())); err != nil {
		t.Fatal(err)
	}
}

func writeWhole(files vfs.FS, name string, b []byte) error {
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// forge changes the payloads of events, each of another block, where they stand, with all checksums right, and returns which events they
// were.
func forge(t *testing.T, s *Store, lsns ...uint64) (dots []eventstore.Dot) {
	t.Helper()
	r, err := s.blockReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, lsn := range lsns {
		if err := r.seek(lsn); err != nil {
			t.Fatal(err)
		}
		i := int(lsn - r.cur.first)
		start, end, err := r.cur.span(i)
		var e eventstore.Recorded
		if err == nil {
			err = r.cur.decode(&e, i, bytes.Clone(r.cur.data[start:end]), s.id.Incarnation)
		}
		if err != nil {
			t.Fatal(err)
		}
		e.Payload[0] ^= 1
		raw := bytes.Clone(r.raw)
		copy(raw[start:end], eventstore.AppendFrame(nil, &e, eventstore.AppendContent(nil, &e)))
		if err := s.log.Set(blockKey(r.cur.last()), raw, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		dots = append(dots, e.Dot)
	}
	if err := s.log.Flush(); err != nil {
		t.Fatal(err)
	}
	return dots
}

// What a log has lost of itself and of other logs comes back from another site, in its places, whatever is damaged: bits, whole
// tables, several that stand next to each other. Shows R30 and S27.
func TestLostRangesComeBackFromOthers(t *testing.T) {
	rounds := 4
	if *reliability.Long {
		rounds = 200
	}
	files, logs, want, others := mixedTables(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 30))
	for n := range rounds {
		image := files.CrashClone(vfs.CrashCloneCfg{})
		o := Options{FS: image, Logger: quietLog}
		s, err := Open("data/store", &o)
		if err != nil {
			t.Fatal(err)
		}
		tables := middleTables(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		from := rng.IntN(len(tables))
		some := tables[from:min(from+1+rng.IntN(3), len(tables))]
		for _, table := range some {
			name := path.Join("data/store/log", table.name)
			if n%2 == 0 {
				zero(t, image, name)
			} else {
				flip(t, image, name, 0.05+0.6*rng.Float64())
				flip(t, image, name, 0.05+0.6*rng.Float64())
			}
		}
		s = openMem(t, image, Options{}) // with nothing cached
		report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{copies{}, others}})
		if len(report.Faults) != len(some) || report.Unrepaired() > 0 {
			for i := range report.Faults {
				t.Log(report.Faults[i].String())
			}
			t.Fatalf("round %d: of %d damaged tables %d were found, %d are left", n, len(some), len(report.Faults), report.Unrepaired())
		}
		sameViews(t, fmt.Sprintf("round %d", n), s, want, logs...)
		if again := scrubbed(t, s, ScrubOptions{}); len(again.Faults) > 0 {
			t.Fatalf("round %d: after the repair: %s", n, again.Faults[0].String())
		}
		sameViews(t, fmt.Sprintf("round %d, after a power loss", n), openMem(t, image.CrashClone(vfs.CrashCloneCfg{}), Options{}), want, logs...)
	}
}

// Who asks for a chain that cannot be read is told that it is damaged, and has that looked into.
func TestChainOfDamagedTable(t *testing.T) {
	files, _, _, _ := mixedTables(t)
	o := Options{FS: files, Logger: quietLog}
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatal(err)
	}
	table := middleTables(t, s)[1]
	first, _ := s.spanOf(table.first, table.last)
	heads, err := s.Heads(t.Context())
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	zero(t, files, path.Join("data/store/log", table.name))
	s = openMem(t, files, Options{})
	damaged := 0
	for _, h := range heads {
		for seq := uint64(1); seq <= h.Seq; seq++ {
			if _, held, err := s.ChainAt(t.Context(), h.Log, seq); err != nil {
				damaged++
				if !errors.Is(err, eventstore.ErrDamaged) || held {
					t.Fatalf("chain of %s at seq %d, in a table from lsn %d on that is damaged: %v", h.Log, seq, first, err)
				}
			}
		}
	}
	select {
	case <-s.Doubted():
	default:
		t.Errorf("%d chains could not be read, and nobody is told to look", damaged)
	}
}

// What is lost is put in again in pieces of which each fits the memory that there is for it; a piece that does not is left as it is, and
// the report says what to do.
func TestRefillIsBounded(t *testing.T) {
	files, logs, want, others := mixedTables(t)
	s := openMem(t, files, Options{})
	tables := middleTables(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, table := range []scrubTable{tables[0], tables[2]} {
		zero(t, files, path.Join("data/store/log", table.name))
	}
	s = openMem(t, files, Options{})
	report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{others}, MaxRefillBytes: 10_000})
	if report.Unrepaired() != 2 || !strings.Contains(report.Faults[0].Left, "more is lost than can be put in again at once") {
		t.Fatalf("without room for what is lost a scrub says %+v", report)
	}
	if report = scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{others}}); len(report.Faults) != 2 || report.Unrepaired() > 0 {
		t.Fatalf("with room for what is lost a scrub says %+v", report)
	}
	sameViews(t, "after the repair", s, want, logs...)
}

// Events that were changed where they stand, all checksums right, are found by the chain and come back one by one, whosever they are;
// where nothing is wrong nothing is. Shows R30.
func TestForgedEventsAreMended(t *testing.T) {
	files, logs, want, others := mixedTables(t)
	rounds := 3
	if *reliability.Long {
		rounds = 40
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 30))
	for range rounds {
		image := files.CrashClone(vfs.CrashCloneCfg{})
		o := Options{FS: image, Logger: quietLog}
		s, err := Open("data/store", &o)
		if err != nil {
			t.Fatal(err)
		}
		end := s.durable.Load()
		lsn := 1 + rng.Uint64N(end)
		dots := forge(t, s, lsn, 1+(lsn+end/2)%end)
		dot := dots[0]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openMem(t, image, Options{}) // with nothing cached
		for _, h := range want["heads"].([]eventstore.LogHead) {
			if h.Log == dot.Log {
				continue
			}
			// Nor is anything said of other logs, unless they stand in the same block.
			if report, err := s.Mend(t.Context(), h.Log, h.Seq, h.Seq+10, ScrubOptions{}); err != nil || len(report.Faults) > 0 {
				t.Fatalf("%s beyond its end: %+v, %v", h.Log, report, err)
			}
		}
		report, err := s.Mend(t.Context(), dot.Log, dot.Seq-1, dot.Seq, ScrubOptions{Holders: []Holder{others.changed(dot.Log, dot.Seq)}})
		if err != nil || report.Unrepaired() != 1 || !strings.Contains(report.Faults[0].Left, "other events") {
			t.Fatalf("%s at lsn %d, from a site that has another event: %+v, %v", dot, lsn, report, err)
		}
		report, err = s.Mend(t.Context(), dot.Log, dot.Seq-1, dot.Seq, ScrubOptions{Holders: []Holder{others.changed(dot.Log, dot.Seq), others}})
		if err != nil || len(report.Faults) != 1 || report.Unrepaired() > 0 {
			t.Fatalf("%s at lsn %d: %+v, %v", dot, lsn, report, err)
		}
		// The other one, which stands in the same table, was left as it was, and is named.
		report, err = s.Mend(t.Context(), dots[1].Log, dots[1].Seq-1, dots[1].Seq, ScrubOptions{Holders: []Holder{others}})
		if err != nil || len(report.Faults) != 1 || report.Unrepaired() > 0 {
			t.Fatalf("%s, the other one: %+v, %v", dots[1], report, err)
		}
		sameViews(t, "after the repair", s, want, logs...)
		if report, err = s.Mend(t.Context(), dot.Log, 0, dot.Seq+1000, ScrubOptions{}); err != nil || len(report.Faults) > 0 {
			t.Fatalf("%s, after the repair: %+v, %v", dot, report, err)
		}
	}
}

// Events that do not lead to the chain after the stretch, or are too few, are not put in, and nothing is changed. Shows R30.
func TestNothingUnprovenIsPutIn(t *testing.T) {
	files, logs, want, others := mixedTables(t)
	image := files.CrashClone(vfs.CrashCloneCfg{})
	s := openMem(t, image, Options{})
	table := middleTables(t, s)[1]
	first, last := s.spanOf(table.first, table.last)
	lost := map[eventstore.LogID]uint64{} // the last seq of each log
	for _, events := range others {
		for _, e := range events {
			if e.Position.LSN >= first && e.Position.LSN <= last {
				lost[e.Dot.Log] = e.Dot.Seq
			}
		}
	}
	if len(lost) < 3 {
		t.Fatalf("the table has events of %v", lost)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	zero(t, image, path.Join("data/store/log", table.name))
	s = openMem(t, image, Options{})
	wrong := []Holder{copies{}}
	for log, seq := range lost {
		wrong = append(wrong, others.changed(log, seq))
		short := copies{}
		for id, events := range others {
			short[id] = events
		}
		short[log] = short[log][:seq-1]
		wrong = append(wrong, short)
	}
	for i, h := range wrong {
		report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{h}})
		if report.Unrepaired() != 1 || !containsAll(report.Faults[0].Left, []string{"lsn", "are lost", "another site"}) {
			t.Fatalf("holder %d: %+v", i, report.Faults)
		}
	}
	t.Log(scrubbed(t, s, ScrubOptions{Repair: true, Holders: wrong[1:2]}).Faults[0].String())
	// Each log from the first that proves to have it.
	if report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: wrong}); report.Unrepaired() > 0 {
		t.Fatalf("from several, each of which has something wrong: %+v", report.Faults)
	}
	sameViews(t, "from several, each of which has something wrong", s, want, logs...)
}

// Power is lost at any moment of a repair: what was damaged is damaged still, or it is whole, and the next repair brings all back.
// Shows R30.
func TestPowerLossWhileRefilling(t *testing.T) {
	files, logs, want, others := mixedTables(t)
	damaged := files.CrashClone(vfs.CrashCloneCfg{})
	s := openMem(t, damaged, Options{})
	table := middleTables(t, s)[1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	zero(t, damaged, path.Join("data/store/log", table.name))
	rng := rand.New(rand.NewPCG(1, 48))
	var images []*vfs.MemFS
	taking := false
	var mu sync.Mutex // guards rng, images and taking
	take := func(on bool) { mu.Lock(); defer mu.Unlock(); taking = on }
	o := Options{Logger: quietLog, FS: watched(damaged, func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpLink, errorfs.OpRename, errorfs.OpRemove, errorfs.OpCreate:
			mu.Lock()
			defer mu.Unlock()
			if taking && !strings.Contains(op.Path, "WATERMARK") {
				images = append(images, damaged.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(5) * 25, RNG: rng}))
			}
		}
		return nil
	})}
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatal(err)
	}
	take(true)
	report, err := s.Scrub(t.Context(), ScrubOptions{BytesPerSecond: -1, Repair: true, Holders: []Holder{others}})
	take(false)
	if err != nil || len(report.Faults) != 1 || report.Unrepaired() > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(images) < 4 {
		t.Fatalf("a repair has %d moments", len(images))
	}
	for i, image := range images {
		s := openMem(t, image, Options{})
		if report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{others}}); report.Unrepaired() > 0 {
			t.Fatalf("moment %d of %d: %s", i, len(images), report.Faults[0].String())
		}
		sameViews(t, fmt.Sprintf("moment %d of %d", i, len(images)), s, want, logs...)
	}
	t.Logf("%d moments", len(images))
}

// A store of which a table is gone, or was cut short, opens when another file stands in for it, and what was in it comes back. What
// else is wrong is left alone. Shows R30.
func TestStandIn(t *testing.T) {
	files, logs, want, others := mixedTables(t)
	if names, err := StandIn("data/store", &Options{FS: files, Logger: quietLog}); err != nil || len(names) > 0 {
		t.Fatalf("in a sound folder: %v, %v", names, err)
	}
	for what, damage := range map[string]func(image *vfs.MemFS, name string) error{
		"gone": func(image *vfs.MemFS, name string) error { return image.Remove(name) },
		"cut short": func(image *vfs.MemFS, name string) error {
			info, err := image.Stat(name)
			if err != nil {
				return err
			}
			return writeWhole(image, name, make([]byte, info.Size()/3))
		},
	} {
		image := files.CrashClone(vfs.CrashCloneCfg{})
		o := Options{FS: image, Logger: quietLog}
		s, err := Open("data/store", &o)
		if err != nil {
			t.Fatal(err)
		}
		tables := middleTables(t, s)[1:3]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range tables {
			if err := damage(image, path.Join("data/store/log", tables[i].name)); err != nil {
				t.Fatal(err)
			}
		}
		if s, err := Open("data/store", &o); err == nil {
			t.Fatalf("%s: it opens (%v)", what, s.Close())
		}
		names, err := StandIn("data/store", &o)
		slices.Sort(names)
		if err != nil || len(names) != 2 || !slices.Contains(names, tables[0].name) || !slices.Contains(names, tables[1].name) {
			t.Fatalf("%s: %v stand in for %s and %s (%v)", what, names, tables[0].name, tables[1].name, err)
		}
		if err := BeginLife("data/store", 9, &o); !errors.Is(err, eventstore.ErrDamaged) {
			t.Errorf("%s: with damaged tables another life begins: %v", what, err)
		}
		s = openMem(t, image, Options{})
		if report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{others}}); len(report.Faults) != 2 || report.Unrepaired() > 0 {
			t.Fatalf("%s: %+v", what, report.Faults)
		}
		sameViews(t, what, s, want, logs...)
	}
	if _, err := StandIn("elsewhere", &Options{FS: files, Logger: quietLog}); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("where there is no log: %v", err)
	}
}

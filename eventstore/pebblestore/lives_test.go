package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"pgregory.net/rapid"
)

// openAt opens the store in a folder of its own.
func openAt(t testing.TB, fs vfs.FS, dir string, o Options) *Store {
	t.Helper()
	o.FS, o.Logger = fs, quietLog
	s, err := Open(dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustAppend(t testing.TB, s *Store, r eventstore.Request) eventstore.Receipt {
	t.Helper()
	receipt, err := s.Append(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func mustBackUp(t testing.TB, s *Store, dir string) Backup {
	t.Helper()
	b, err := s.Backup(context.Background(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustRestore(t testing.TB, fs vfs.FS, from, dir string, o RestoreOptions) Restored {
	t.Helper()
	o.Store = &Options{FS: fs, Logger: quietLog, IndexBatch: 7}
	r, err := Restore(context.Background(), from, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// logOf returns all events of a log with their chains.
func logOf(t rapid.TB, s *Store) (all []eventstore.Recorded) {
	t.Helper()
	for e, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{Chain: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func frameOf(e *eventstore.Recorded) []byte {
	return eventstore.AppendFrame(nil, e, eventstore.AppendContent(nil, e))
}

// checkKept checks that a log has the given events first, byte for byte, under positions of the present life, and that it
// verifies and is told of in the right way.
func checkKept(t rapid.TB, s *Store, want []eventstore.Recorded) {
	t.Helper()
	got := logOf(t, s)
	if len(got) < len(want) {
		t.Fatalf("the log has %d events, %d were kept", len(got), len(want))
	}
	for i := range want {
		w, g := &want[i], &got[i]
		if w.Dot != g.Dot || !bytes.Equal(frameOf(w), frameOf(g)) || w.Chain != g.Chain {
			t.Fatalf("event %d is %s with chain %x, was %s with %x", i+1, g.Dot, g.Chain[:4], w.Dot, w.Chain[:4])
		}
	}
	for i := range got {
		if p := (eventstore.Position{Incarnation: s.id.Incarnation, LSN: uint64(i) + 1}); got[i].Position != p {
			t.Fatalf("event %d stands at %s, want %s", i+1, got[i].Position, p)
		}
	}
	report, err := s.Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range report.Faults {
		t.Errorf("verify: %s", fault)
	}
	if report.Events != uint64(len(got)) {
		t.Errorf("verify counts %d events, there are %d", report.Events, len(got))
	}
	checkSubscribed(t, s, got)
}

// checkSubscribed checks that a subscription gives the log, with the own seq of the present life.
func checkSubscribed(t rapid.TB, s *Store, want []eventstore.Recorded) {
	t.Helper()
	if len(want) == 0 {
		return
	}
	sub, err := s.Subscribe(context.Background(), eventstore.Position{}, eventstore.Filter{MaxChunk: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	seq := uint64(0)
	for n := 0; n < len(want); {
		chunk, err := sub.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for i := range chunk.Events {
			if chunk.Events[i].Dot != want[n].Dot {
				t.Fatalf("subscription gives %s, want %s", chunk.Events[i].Dot, want[n].Dot)
			}
			if want[n].Dot.Log == s.id {
				seq = want[n].Dot.Seq
			}
			n++
		}
		if chunk.Seq != seq {
			t.Fatalf("subscription says seq %d at %s, want %d", chunk.Seq, chunk.Position, seq)
		}
	}
}

// livesModel is what must be so of a log that is restored again and again.
type livesModel struct {
	fs    vfs.FS
	dir   string
	store *Store
	log   []eventstore.Recorded // as it is now
	// dots are all that were ever given, in this past or another, with their frames.
	dots    map[eventstore.Dot][]byte
	tokens  []eventstore.Position // positions of earlier lives
	backups []livesBackup
	folders int
}

type livesBackup struct {
	dir string
	log []eventstore.Recorded
}

// options are those of a store that is cheap to open.
func (m *livesModel) options() *Options {
	return &Options{FS: m.fs, Logger: quietLog, IndexBatch: 4, CacheBytes: 1 << 20, MemTableBytes: 64 << 10, CachedStreams: 4}
}

func (m *livesModel) folder(kind string) string {
	m.folders++
	return fmt.Sprintf("data/%s-%d", kind, m.folders)
}

func (m *livesModel) append(t *rapid.T) {
	for range rapid.IntRange(1, 3).Draw(t, "appends") {
		n := rapid.IntRange(1, 4).Draw(t, "events")
		r := request(fmt.Sprint("request-", len(m.dots)), eventstore.Stream("order", fmt.Sprint(len(m.dots)%3)), eventstore.Any, n)
		receipt, err := m.store.Append(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range m.store.ReadAll(context.Background(), eventstore.Position{Incarnation: receipt.First.Incarnation, LSN: receipt.First.LSN - 1}, eventstore.Filter{Chain: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if before, given := m.dots[e.Dot]; given {
				t.Fatalf("dot %s is given again: it was %x", e.Dot, before)
			}
			m.dots[e.Dot] = frameOf(&e)
			m.log = append(m.log, e)
		}
	}
}

func (m *livesModel) backUp(t *rapid.T) {
	b := livesBackup{m.folder("backup"), m.log}
	info, err := m.store.Backup(context.Background(), b.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Position.LSN != uint64(len(b.log)) || info.Log != m.store.id {
		t.Fatalf("backup of %s up to %s, the log is %s and has %d events", info.Log, info.Position, m.store.id, len(b.log))
	}
	m.backups = append(m.backups, b)
}

func (m *livesModel) restore(t *rapid.T) {
	if len(m.backups) == 0 {
		return
	}
	b := rapid.SampledFrom(m.backups).Draw(t, "backup")
	o := RestoreOptions{Store: m.options()}
	keep := len(b.log)
	if keep > 0 && rapid.Bool().Draw(t, "part") {
		at := rapid.IntRange(1, keep).Draw(t, "at")
		o.At = b.log[at-1].Position
		keep = at
		for !b.log[keep-1].EndsBatch() {
			keep++
		}
	}
	// Who restores an older copy beside a newer one has to say so: the backup does not know.
	o.Claim = func(_ context.Context, lowest uint32) (uint32, error) {
		return max(lowest, m.store.id.Incarnation+1), nil
	}
	dir := m.folder("store")
	restored, err := Restore(context.Background(), b.dir, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Log.Incarnation <= m.store.id.Incarnation || restored.Dropped != uint64(len(b.log)-keep) || restored.Position.LSN != uint64(keep) {
		t.Fatalf("restored %+v after life %d, want %d of %d events", restored, m.store.id.Incarnation, keep, len(b.log))
	}
	m.tokens = append(m.tokens, m.store.position(min(uint64(len(m.log)), uint64(keep))))
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	m.dir, m.log = dir, b.log[:keep:keep]
	m.open(t)
}

func (m *livesModel) reopen(t *rapid.T) {
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "without index") {
		if err := m.fs.RemoveAll(m.dir + "/index"); err != nil {
			t.Fatal(err)
		}
	}
	m.open(t)
}

func (m *livesModel) open(t *rapid.T) {
	s, err := Open(m.dir, m.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writable(); err != nil {
		t.Fatal(err)
	}
	m.store = s
}

func (m *livesModel) check(t *rapid.T) {
	checkKept(t, m.store, m.log)
	for _, p := range m.tokens {
		if p.LSN == 0 {
			continue
		}
		if _, err := m.store.Subscribe(context.Background(), p, eventstore.Filter{}); !errors.Is(err, eventstore.ErrWrongIncarnation) {
			t.Fatalf("position %s of an earlier life: %v, want %v", p, err, eventstore.ErrWrongIncarnation)
		}
	}
}

// A log may be restored from any of its backups, whole or in part, and again from backups of what came of that. Every event
// that is kept is the one it was, and no dot is ever given twice. Shows S2, S17 and S18.
func TestLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &livesModel{fs: vfs.NewMem(), dir: "data/store", dots: map[eventstore.Dot][]byte{}}
		defer func() { _ = m.store.Close() }()
		m.open(rt)
		actions := []func(*rapid.T){m.append, m.append, m.backUp, m.restore, m.restore, m.reopen}
		for range rapid.IntRange(1, 12).Draw(rt, "actions") {
			rapid.SampledFrom(actions).Draw(rt, "action")(rt)
			m.check(rt)
		}
	})
}

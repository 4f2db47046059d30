package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/internal/reliability"
)

// backedUp writes a log of batches of different sizes, each a millisecond after the one before, backs it up, and returns
// its events.
func backedUp(t *testing.T, files vfs.FS, appends int) []eventstore.Recorded {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := openAt(t, files, "data/store", Options{IndexBatch: 10, Clock: hlc.New(func() time.Time { return now })})
	for i := range appends {
		now = now.Add(time.Millisecond)
		r := request(fmt.Sprint("request-", i), eventstore.Stream("order", fmt.Sprint(i%5)), eventstore.Any, 1+i%4)
		r.Appends[0].Events[0].Payload = make([]byte, 700*(i%7)) // some blocks end in the middle of a batch
		mustAppend(t, s, r)
	}
	mustBackUp(t, s, "data/backup")
	log := logOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return log
}

// A log is restored up to each of its places, and up to each moment: whole batches, no more. It then goes on in a new life,
// and answers repeated requests as before. It is T37 of docs/reliability.md, and shows S7, S17, S18 and S20.
func TestRestoreToEveryPlace(t *testing.T) {
	appends := 24
	if *reliability.Long {
		appends = 400
	}
	result := reliability.Result{Test: "T37", What: "a backup restored up to each place and each moment of its log"}
	files := vfs.NewMem()
	log := backedUp(t, files, appends)
	ends := func(lsn int) int {
		for lsn > 0 && !log[lsn-1].EndsBatch() {
			lsn++
		}
		return lsn
	}
	for lsn := 0; lsn <= len(log); lsn++ {
		dir := fmt.Sprint("data/at-", lsn)
		restored := mustRestore(t, files, "data/backup", dir, RestoreOptions{At: eventstore.Position{Incarnation: 1, LSN: uint64(lsn)}})
		result.Violations += checkRestored(t, files, dir, restored, log, ends(lsn))
		result.Cycles++
	}
	for i := range log {
		at := log[i].Time()
		keep := len(log)
		for keep > 0 && log[keep-1].Time().After(at) {
			keep--
		}
		dir := fmt.Sprint("data/until-", i)
		restored := mustRestore(t, files, "data/backup", dir, RestoreOptions{Until: at})
		result.Violations += checkRestored(t, files, dir, restored, log, keep)
		result.Cycles++
	}
	result.Extra = map[string]any{"events in the backup": len(log)}
	result.Print(t)
}

// checkRestored has a restored log go on, removes it, and returns how much was not as it should be.
func checkRestored(t *testing.T, files vfs.FS, dir string, restored Restored, log []eventstore.Recorded, keep int) (wrong int) {
	t.Helper()
	note := func(format string, args ...any) {
		t.Helper()
		wrong++
		t.Errorf(format, args...)
	}
	s := openAt(t, files, dir, Options{})
	defer s.Close()
	if restored.Position.LSN != uint64(keep) || int(restored.Dropped) != len(log)-keep || restored.Log != s.id || s.id.Incarnation < 2 {
		t.Fatalf("restored %+v, want %d of %d events in a new life", restored, keep, len(log))
	}
	kept := log[:keep]
	checkKept(t, s, kept)
	if keep > 0 {
		last := kept[keep-1]
		if restored.Chain != last.Chain || restored.Seq != last.Dot.Seq || !restored.LastEvent.Equal(last.Time()) {
			note("restored %+v, the last event is %s at %s with chain %x", restored, last.Dot, last.Time(), last.Chain[:4])
		}
		// A repeated request gets the places where its events stand now.
		receipt := mustAppend(t, s, eventstore.Request{ID: kept[0].CommandID, Hash: kept[0].RequestHash, Appends: request("", kept[0].Stream, eventstore.Any, 1).Appends})
		if want := s.position(1); !receipt.Duplicate || receipt.First != want {
			note("repeated request: %+v, want the receipt of what stands at %s", receipt, want)
		}
	}
	receipt := mustAppend(t, s, request("after", eventstore.Stream("order", "new"), eventstore.NoStream, 1))
	all := logOf(t, s)
	last := all[len(all)-1]
	if want := (eventstore.Dot{Log: s.id, Seq: 1}); receipt.Position != s.position(uint64(keep)+1) || last.Dot != want {
		note("the first event of the new life is %s at %s, want %s at lsn %d", last.Dot, receipt.Position, want, keep+1)
	}
	if keep > 0 && !last.Time().After(kept[keep-1].Time()) {
		note("the first event of the new life happened at %s, the last of the old one at %s", last.Time(), kept[keep-1].Time())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, files, dir, Options{})
	checkKept(t, again, all)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := files.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return wrong
}

// No two restores of a backup begin the same life, whatever became of the first (S18).
func TestRestoresOfOneBackupBeginDifferentLives(t *testing.T) {
	files := vfs.NewMem()
	backedUp(t, files, 5)
	given := map[uint32]bool{1: true}
	for i := range 3 {
		r := mustRestore(t, files, "data/backup", fmt.Sprint("data/store-", i), RestoreOptions{})
		if given[r.Log.Incarnation] {
			t.Fatalf("incarnation %d begins again", r.Log.Incarnation)
		}
		given[r.Log.Incarnation] = true
	}
	if r := mustRestore(t, files, "data/backup", "data/store-9", RestoreOptions{Incarnation: 9}); r.Log.Incarnation != 9 {
		t.Errorf("incarnation %d begins, 9 was asked for", r.Log.Incarnation)
	}
	claim := func(_ context.Context, lowest uint32) (uint32, error) { return lowest + 10, nil }
	if r := mustRestore(t, files, "data/backup", "data/store-10", RestoreOptions{Claim: claim}); r.Log.Incarnation != 20 {
		t.Errorf("incarnation %d begins, 20 was claimed", r.Log.Incarnation)
	}
	// A folder that has lost its log still tells of its life.
	if err := files.RemoveAll("data/store-10/log"); err != nil {
		t.Fatal(err)
	}
	if err := files.RemoveAll("data/store-10/index"); err != nil {
		t.Fatal(err)
	}
	if err := files.Remove("data/backup/" + restoredName); err != nil {
		t.Fatal(err)
	}
	if r := mustRestore(t, files, "data/backup", "data/store-10", RestoreOptions{}); r.Log.Incarnation != 21 {
		t.Errorf("incarnation %d begins in the folder of incarnation 20", r.Log.Incarnation)
	}
	// A backup that cannot be written to cannot remember.
	readOnly := watched(files, func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, "data/backup") {
			return &fs.PathError{Op: "open", Path: op.Path, Err: syscall.EROFS}
		}
		return nil
	})
	o := RestoreOptions{Store: &Options{FS: readOnly, Logger: quietLog}}
	if _, err := Restore(context.Background(), "data/backup", "data/store-11", o); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "incarnation") {
		t.Errorf("restore from a backup that cannot be written to: %v", err)
	}
	o.Incarnation = 40
	if r, err := Restore(context.Background(), "data/backup", "data/store-11", o); err != nil || r.Log.Incarnation != 40 {
		t.Errorf("restore as incarnation 40: %+v, %v", r, err)
	}
}

// Restores of one backup at the same time begin different lives. Shows S18.
func TestConcurrentRestoresBeginDifferentLives(t *testing.T) {
	files := vfs.NewMem()
	backedUp(t, files, 5)
	const restores = 4
	// Whoever looks which lives there are gives the others time to look too, before the next is taken.
	disk := watched(files, func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpen && strings.HasSuffix(op.Path, restoredName) {
			time.Sleep(50 * time.Millisecond)
		}
		return nil
	})
	lives := make([]uint32, restores)
	var restoring sync.WaitGroup
	for n := range restores {
		restoring.Go(func() {
			r, err := Restore(t.Context(), "data/backup", fmt.Sprint("data/store-", n), RestoreOptions{Store: &Options{FS: disk, Logger: quietLog}})
			if err != nil {
				t.Error(err)
			}
			lives[n] = r.Log.Incarnation
		})
	}
	restoring.Wait()
	slices.Sort(lives)
	if !slices.Equal(lives, []uint32{2, 3, 4, 5}) {
		t.Errorf("the restores began the lives %d", lives)
	}
}

// What cannot be restored is refused, and nothing is made.
func TestRestoreRefuses(t *testing.T) {
	files := vfs.NewMem()
	log := backedUp(t, files, 5)
	mustRestore(t, files, "data/backup", "data/taken", RestoreOptions{})
	end := uint64(len(log))
	for name, c := range map[string]struct {
		from, to string
		o        RestoreOptions
		store    Options
		want     error
		says     string
	}{
		"over a store":              {"data/backup", "data/taken", RestoreOptions{}, Options{}, eventstore.ErrInvalid, "does not overwrite"},
		"into a backup":             {"data/backup", "data/backup", RestoreOptions{}, Options{}, ErrBackup, "into another"},
		"from a store":              {"data/taken", "data/new", RestoreOptions{}, Options{}, ErrBackup, "manifest.json"},
		"from nowhere":              {"data/nowhere", "data/new", RestoreOptions{}, Options{}, ErrBackup, "manifest.json"},
		"beyond the end":            {"data/backup", "data/new", RestoreOptions{At: eventstore.Position{Incarnation: 1, LSN: end + 1}}, Options{}, eventstore.ErrWrongIncarnation, ""},
		"a place of another life":   {"data/backup", "data/new", RestoreOptions{At: eventstore.Position{Incarnation: 2, LSN: 1}}, Options{}, eventstore.ErrWrongIncarnation, ""},
		"a position and a time":     {"data/backup", "data/new", RestoreOptions{At: log[0].Position, Until: log[0].Time()}, Options{}, eventstore.ErrInvalid, "name one"},
		"a life that there was":     {"data/backup", "data/new", RestoreOptions{Incarnation: 1}, Options{}, eventstore.ErrInvalid, "incarnation 1"},
		"a life that another began": {"data/backup", "data/new", RestoreOptions{Incarnation: 2}, Options{}, eventstore.ErrInvalid, "incarnation 2"},
		"another site's":            {"data/backup", "data/new", RestoreOptions{}, Options{Site: "sh"}, eventstore.ErrInvalid, "sh"},
		"another shard's":           {"data/backup", "data/new", RestoreOptions{}, Options{Shard: 3}, eventstore.ErrInvalid, "shard"},
	} {
		t.Run(name, func(t *testing.T) {
			c.store.FS, c.store.Logger = files, quietLog
			c.o.Store = &c.store
			_, err := Restore(context.Background(), c.from, c.to, c.o)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("restore: %v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
	checkKept(t, openAt(t, files, "data/taken", Options{}), log)
	if _, err := Open("data/backup", &Options{FS: files, Logger: quietLog}); !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "tributary restore --from data/backup") {
		t.Errorf("open of a backup: %v", err)
	}
}

// A backup of which one byte of any file has changed, or a file is cut short or missing, is refused by its name before
// anything is made (S20).
func TestDamagedBackupIsRefused(t *testing.T) {
	files := vfs.NewMem()
	backedUp(t, files, 30)
	names, err := files.List("data/backup")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, image vfs.FS, name string) {
		t.Helper()
		_, err := Restore(context.Background(), "data/backup", "data/new", RestoreOptions{Store: &Options{FS: image, Logger: quietLog}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Fatalf("restore: %v, want an error that names %s", err, name)
		}
		if _, err := image.Stat("data/new"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("something was made: %v", err)
		}
	}
	for _, name := range names {
		if name == lockName {
			continue // it is empty
		}
		path := "data/backup/" + name
		body, err := readFile(files, path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			image := copyOf(t, files, "data/backup")
			flip(t, image, path, float64(i)/40)
			refused(t, image, name)
		}
		image := copyOf(t, files, "data/backup")
		if err := replaceFile(image, path, body[:len(body)-1]); err != nil {
			t.Fatal(err)
		}
		refused(t, image, name)
		if err := image.Remove(path); err != nil {
			t.Fatal(err)
		}
		refused(t, image, name)
	}
}

// copyOf returns a file system with a copy of a folder of plain files.
func copyOf(t *testing.T, files vfs.FS, dir string) *vfs.MemFS {
	t.Helper()
	image := vfs.NewMem()
	if err := image.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	names, err := files.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		body, err := readFile(files, files.PathJoin(dir, name))
		if err == nil {
			err = replaceFile(image, image.PathJoin(dir, name), body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return image
}

// onWrites is a file system that calls visit before each change below a folder.
func onWrites(files vfs.FS, below string, visit func() error) vfs.FS {
	return watched(files, func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, below) {
			return visit()
		}
		return nil
	})
}

// While eight writers append, a backup loses power before each of its writes: then there is no backup, or a whole one, and
// the store has lost nothing. A backup that was made has all that was acknowledged before it was asked for, and nothing
// that was never durable. It is T37 of docs/reliability.md, and shows S4, S19 and S21.
func TestBackupWhileWriting(t *testing.T) {
	logs := 1
	if *reliability.Long {
		logs = 40
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	result := reliability.Result{Test: "T37", What: "backups while 8 writers append, power lost before each write of them; what is there is restored", Seed: seed}
	for result.Seeds < logs && reliability.TimeLeft(t) && !t.Failed() {
		t.Run(fmt.Sprint(result.Seeds), func(t *testing.T) {
			images, acked := backUpWhileWriting(t, rand.New(rand.NewPCG(seed, uint64(result.Seeds))))
			result.Cycles += images
			result.Acked += acked
		})
		result.Seeds++
	}
	result.Print(t)
}

// backUpWhileWriting returns how many images of a disk, and backups, were restored and compared, and how many requests had been
// acknowledged.
func backUpWhileWriting(t *testing.T, rng *rand.Rand) (restored, requests int) {
	t.Helper()
	const writers, rounds = 8, 2
	disk := vfs.NewCrashableMem()
	var images []*vfs.MemFS
	backingUp := atomic.Bool{}
	files := onWrites(disk, "data/backup", func() error {
		if backingUp.Load() {
			images = append(images, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * rng.IntN(5), RNG: rng}))
		}
		return nil
	})
	s := openAt(t, files, "data/store", Options{IndexBatch: 50, MemTableBytes: 64 << 10})
	var mu sync.Mutex // guards acked
	acked := map[string]eventstore.Receipt{}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", w, n)
				receipt, err := s.Append(context.Background(), crashRequest(id, w, n))
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				acked[id] = receipt
				enough := len(acked) > 1500
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	known := func() map[string]eventstore.Receipt {
		mu.Lock()
		defer mu.Unlock()
		all := make(map[string]eventstore.Receipt, len(acked))
		for id, r := range acked {
			all[id] = r
		}
		return all
	}
	for round := range rounds {
		for wanted := (round + 1) * 60; len(known()) < wanted && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		before := known()
		images = nil
		backingUp.Store(true)
		dir := fmt.Sprint("data/backup-", round)
		b := mustBackUp(t, s, dir)
		backingUp.Store(false)
		for i, image := range images {
			checkImage(t, image, dir, before, fmt.Sprintf("round %d, image %d of %d", round, i, len(images)))
		}
		if image := disk.CrashClone(vfs.CrashCloneCfg{}); !IsBackup(image, dir) || exists(image, dir+"/"+unfinishedName) {
			t.Fatal("a backup that was made is gone after a power loss")
		} else {
			checkImage(t, image, dir, before, "after the backup")
		}
		restored += len(images) + 2
		into := fmt.Sprint("data/restored-", round)
		mustRestore(t, files, dir, into, RestoreOptions{})
		r := openAt(t, files, into, Options{})
		checkAcked(t, r, before)
		kept := logOf(t, r)
		checkKept(t, r, kept)
		if got := r.recent.state().lsn; got != b.Position.LSN {
			t.Fatalf("the restored log ends at lsn %d, the backup says %s", got, b.Position)
		}
		now := logOf(t, s)
		checkSame(t, kept, now[:len(kept)])
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	writing.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return restored, len(acked)
}

// checkImage checks what a power loss left of a store and a backup of it.
func checkImage(t *testing.T, image *vfs.MemFS, dir string, acked map[string]eventstore.Receipt, where string) {
	t.Helper()
	s, err := Open("data/store", &Options{FS: image, Logger: quietLog})
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	defer s.Close()
	checkAcked(t, s, acked)
	restored, err := Restore(context.Background(), dir, "data/new", RestoreOptions{Store: &Options{FS: image, Logger: quietLog}})
	if errors.Is(err, ErrBackup) {
		// Another try makes it.
		mustBackUp(t, s, dir)
		restored, err = Restore(context.Background(), dir, "data/new", RestoreOptions{Store: &Options{FS: image, Logger: quietLog}})
	}
	if err != nil {
		t.Fatalf("%s: restore: %v", where, err)
	}
	r := openAt(t, image, "data/new", Options{})
	defer r.Close()
	checkAcked(t, r, acked)
	kept := logOf(t, r)
	if uint64(len(kept)) != restored.Position.LSN || restored.Position.LSN > s.durable.Load() {
		t.Fatalf("%s: %d events were restored, %s says the restore; the log has %d", where, len(kept), restored.Position, s.durable.Load())
	}
	checkSame(t, kept, logOf(t, s)[:len(kept)])
}

// checkAcked checks that a store, restored or not, knows requests at their places.
func checkAcked(t *testing.T, s *Store, acked map[string]eventstore.Receipt) {
	t.Helper()
	for id, want := range acked {
		got, _, err := s.Receipt(context.Background(), "", id)
		want.Duplicate = true
		want.First.Incarnation, want.Position.Incarnation = s.id.Incarnation, s.id.Incarnation
		if err != nil || !cmp.Equal(got, want) {
			t.Fatalf("request %s was acknowledged with %+v, there is %+v, %v", id, want, got, err)
		}
	}
}

func checkSame(t *testing.T, got, want []eventstore.Recorded) {
	t.Helper()
	for i := range want {
		if got[i].Dot != want[i].Dot || got[i].Chain != want[i].Chain {
			t.Fatalf("event %d is %s with chain %x, want %s with %x", i+1, got[i].Dot, got[i].Chain[:4], want[i].Dot, want[i].Chain[:4])
		}
	}
}

// What is written but not synced is no part of a backup: it may never become durable (S19).
func TestBackupHasOnlyWhatIsDurable(t *testing.T) {
	files := vfs.NewMem()
	g := newGate(files)
	s := openAt(t, g, "data/store", Options{})
	mustAppend(t, s, request("durable", eventstore.Stream("order", "1"), eventstore.Any, 2))
	unshut := g.shut()
	defer unshut()
	p := submit(t, s, request("not yet", eventstore.Stream("order", "1"), eventstore.Any, 3))
	<-g.waiting
	done := make(chan Backup, 1)
	go func() {
		b, err := s.Backup(context.Background(), "data/backup", nil)
		if err != nil {
			t.Error(err)
		}
		done <- b
	}()
	select {
	case b := <-done:
		if b.Position.LSN != 2 || b.Seq != 2 {
			t.Errorf("backup goes up to %s, seq %d; durable is lsn 2", b.Position, b.Seq)
		}
	case <-time.After(time.Minute):
		t.Fatal("the backup waits for what is not durable")
	}
	restored := mustRestore(t, files, "data/backup", "data/new", RestoreOptions{})
	if restored.Position.LSN != 2 {
		t.Errorf("restored up to %s, want lsn 2", restored.Position)
	}
	unshut()
	if _, err := p.wait(t); err != nil {
		t.Fatal(err)
	}
}

// The largest incarnation is never begun: a log that has come so far could not be restored again. The one before is the
// last, after which none is left.
func TestNoIncarnationIsLeft(t *testing.T) {
	files := vfs.NewMem()
	backedUp(t, files, 5)
	restoreAs := func(incarnation uint32, claim uint32) error {
		o := RestoreOptions{Incarnation: incarnation, Store: &Options{FS: files, Logger: quietLog}}
		if claim != 0 {
			o.Claim = func(context.Context, uint32) (uint32, error) { return claim, nil }
		}
		_, err := Restore(t.Context(), "data/backup", "data/refused", o)
		return err
	}
	for _, asked := range [][2]uint32{{math.MaxUint32, 0}, {0, math.MaxUint32}} {
		if err := restoreAs(asked[0], asked[1]); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("asked for and claimed %d: %v, want %v", asked, err, eventstore.ErrInvalid)
		}
	}
	if r := mustRestore(t, files, "data/backup", "data/second", RestoreOptions{}); r.Log.Incarnation != 2 {
		t.Errorf("incarnation %d begins, want 2: none has begun by those that were refused", r.Log.Incarnation)
	}
	mustRestore(t, files, "data/backup", "data/last", RestoreOptions{Incarnation: math.MaxUint32 - 1})
	if err := restoreAs(0, 0); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "no incarnation is left") {
		t.Errorf("after the last: %v", err)
	}
}

// A moment before the first event is a mistake: the error says when the first event was.
func TestRestoreUntilBeforeTheFirstEvent(t *testing.T) {
	files := vfs.NewMem()
	log := backedUp(t, files, 5)
	_, err := Restore(t.Context(), "data/backup", "data/new", RestoreOptions{
		Until: log[0].Time().Add(-time.Nanosecond), Store: &Options{FS: files, Logger: quietLog},
	})
	if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), log[0].Time().Format(time.RFC3339Nano)) {
		t.Errorf("%v, want it to say that the first event is of %s", err, log[0].Time())
	}
	if exists(files, "data/new") {
		t.Error("something was made")
	}
}

// leftIn returns what a folder holds; nothing when there is no folder.
func leftIn(t *testing.T, files vfs.FS, dir string) []string {
	t.Helper()
	names, err := files.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// Of two backups into one folder the second is refused while the first is under way, and does it no harm, whatever the
// folder is called. Afterwards the folder is one that is not empty.
func TestTwoBackupsIntoOneFolder(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, vfs.Default, filepath.Join(dir, "store"), Options{})
	for i := range 20 {
		mustAppend(t, s, request(fmt.Sprint(i), eventstore.Stream("order", "1"), eventstore.Any, 1))
	}
	to := filepath.Join(dir, "backup")
	begun := false
	first, err := s.Backup(t.Context(), to, func(uint64, uint64) {
		if begun {
			return
		}
		begun = true
		for _, same := range []string{to, to + "/", dir + "/./backup"} {
			if _, err := s.Backup(t.Context(), same, nil); !errors.Is(err, ErrLocked) || !errors.Is(err, eventstore.ErrInvalid) {
				t.Errorf("a second backup into %s: %v, want %v", same, err, ErrLocked)
			}
		}
	})
	if err != nil || !begun {
		t.Fatalf("the first backup: %v", err)
	}
	again, err := ReadBackup(nil, to)
	if err != nil || again.Chain != first.Chain {
		t.Errorf("the first backup is read back as %+v, %v, want %+v", again, err, first)
	}
	mustRestore(t, vfs.Default, to, filepath.Join(dir, "new"), RestoreOptions{})
	if _, err := s.Backup(t.Context(), to, nil); !errors.Is(err, eventstore.ErrInvalid) || errors.Is(err, ErrLocked) {
		t.Errorf("backup over a backup: %v", err)
	}
}

// A backup that finds the disk full leaves nothing behind, and nothing that keeps a later one from being made. So does one
// that is called off. (S21)
func TestBackupOnFullDisk(t *testing.T) {
	disk := vfs.NewMem()
	full := atomic.Int64{} // writes until the disk is full
	files := onWrites(disk, "data/backup", func() error {
		if full.Add(-1) == 0 {
			return syscall.ENOSPC
		}
		return nil
	})
	s := openAt(t, files, "data/store", Options{})
	for i := range 20 {
		mustAppend(t, s, request(fmt.Sprint(i), eventstore.Stream("order", "1"), eventstore.Any, 1))
	}
	failed := 0
	for writes := int64(1); ; writes++ {
		full.Store(writes)
		_, err := s.Backup(context.Background(), "data/backup", nil)
		if err == nil {
			break
		}
		failed++
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("with room for %d writes: %v", writes, err)
		}
		if names := leftIn(t, disk, "data/backup"); len(names) > 0 {
			t.Fatalf("with room for %d writes the folder is left with %v", writes, names)
		}
	}
	if failed < 5 {
		t.Errorf("the disk was full %d times only", failed)
	}
	full.Store(0)
	mustRestore(t, files, "data/backup", "data/new", RestoreOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := s.Backup(ctx, "data/backup-2", func(uint64, uint64) { cancel() })
	if err == nil { // called off after its last step
		t.Log("the backup was quicker")
	} else if names := leftIn(t, disk, "data/backup-2"); !errors.Is(err, context.Canceled) || len(names) > 0 {
		t.Errorf("called off: %v; the folder is left with %v", err, names)
	}
	if _, err := s.Backup(context.Background(), "data/backup", nil); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("backup over a backup: %v, want %v", err, eventstore.ErrInvalid)
	}
}

// A log that is damaged is not backed up as if it were whole.
func TestDamagedLogIsNotBackedUp(t *testing.T) {
	files := written(t, 100, Options{})
	s := openAt(t, files, "data/store", Options{})
	b := get(t, s.log, blockKey(50))
	b[3]++
	set(t, s.log, blockKey(50), b)
	if _, err := s.Backup(context.Background(), "data/backup", nil); !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "lsn 50") {
		t.Fatalf("backup: %v, want %v that names lsn 50", err, eventstore.ErrCorrupt)
	}
	if IsBackup(files, "data/backup") {
		t.Error("there is a backup")
	}
}

// A restore that loses power at any moment leaves a folder that is not opened, or a whole store; another restore makes it
// whole. It is T37 of docs/reliability.md, and shows S22.
func TestKilledRestore(t *testing.T) {
	restores := 1
	if *reliability.Long {
		restores = 50
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	result := reliability.Result{Test: "T37", What: "restores that lose power, and are made again", Seed: seed}
	unfinished := 0
	for result.Seeds < restores && reliability.TimeLeft(t) && !t.Failed() {
		t.Run(fmt.Sprint(result.Seeds), func(t *testing.T) {
			images, left := restoreUntilPowerIsLost(t, rand.New(rand.NewPCG(seed, uint64(result.Seeds))))
			result.Cycles += images
			unfinished += left
		})
		result.Seeds++
	}
	result.Extra = map[string]any{"left unfinished": unfinished}
	result.Print(t)
}

// restoreUntilPowerIsLost returns how many images of the disk were looked at, and how many had an unfinished restore.
func restoreUntilPowerIsLost(t *testing.T, rng *rand.Rand) (looked, unfinished int) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	log := backedUp(t, disk, 20)
	var mu sync.Mutex // guards images and rng
	var images []*vfs.MemFS
	files := onWrites(disk, "data/new", func() error {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(3) == 0 {
			images = append(images, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * rng.IntN(5), RNG: rng}))
		}
		return nil
	})
	mustRestore(t, files, "data/backup", "data/new", RestoreOptions{})
	images = append(images, disk.CrashClone(vfs.CrashCloneCfg{}))
	empty := 0
	for i, image := range images {
		s, err := Open("data/new", &Options{FS: image, Logger: quietLog})
		switch {
		case errors.Is(err, ErrUnfinished):
			unfinished++
			mustRestore(t, image, "data/backup", "data/new", RestoreOptions{})
			s = openAt(t, image, "data/new", Options{})
		case err != nil:
			t.Fatalf("image %d of %d: %v", i, len(images), err)
		}
		if s.recent.state().lsn == 0 && i < len(images)/2 { // nothing of the restore had come to the disk
			empty++
			_ = s.Close()
			continue
		}
		checkKept(t, s, log)
		if s.id.Incarnation < 2 {
			t.Fatalf("image %d: the log is %s", i, s.id)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if unfinished < len(images)/2 {
		t.Errorf("of %d images %d were marked and %d empty", len(images), unfinished, empty)
	}
	return len(images), unfinished
}

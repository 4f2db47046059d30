package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
	"github.com/tributary-es/tributary/internal/hlc"
)

// memBucket is a bucket in memory, in which things can go wrong.
type memBucket struct {
	mu      sync.Mutex // guards objects
	objects map[string][]byte
	// before is called before each operation, and may have it fail.
	before func(op, name string) error
}

func newMemBucket() *memBucket {
	return &memBucket{objects: map[string][]byte{}, before: func(string, string) error { return nil }}
}

func (b *memBucket) Put(_ context.Context, name string, body []byte) error {
	if err := b.before("put", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[name] = bytes.Clone(body)
	return nil
}

func (b *memBucket) ReadAt(_ context.Context, name string, p []byte, offset int64) error {
	if err := b.before("read", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	body, ok := b.objects[name]
	switch {
	case !ok:
		return archive.ErrNoObject
	case offset+int64(len(p)) > int64(len(body)):
		return io.ErrUnexpectedEOF
	}
	copy(p, body[offset:])
	return nil
}

func (b *memBucket) List(_ context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		if err := b.before("list", prefix); err != nil {
			yield(archive.Object{}, err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(b.objects)) {
			if strings.HasPrefix(name, prefix) && !yield(archive.Object{Name: name, Bytes: int64(len(b.objects[name]))}, nil) {
				return
			}
		}
	}
}

func (b *memBucket) Remove(_ context.Context, name string) error {
	if err := b.before("remove", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, name)
	return nil
}

// OpenMemBucket opens buckets in memory, for the suite that stands outside of the package.
func OpenMemBucket() archive.Opener { return newMemBucket().open }

func (b *memBucket) open(string) (archive.Bucket, error) { return b, nil }

// archiveOptions are those of stores whose archive is a bucket in memory.
func archiveOptions(b *memBucket) Options { return Options{IndexBatch: 10, OpenArchive: b.open} }

const testBucket = "mem://bucket/prefix"

// fillForArchive appends batches of different sizes to some streams, a minute after each other, with tags.
func fillForArchive(t *testing.T, s *Store, now *time.Time, from, appends int) {
	t.Helper()
	for i := from; i < from+appends; i++ {
		*now = now.Add(time.Minute)
		r := request(fmt.Sprint("request-", i), eventstore.Stream("order", fmt.Sprint(i%5)), eventstore.Any, 1+i%4)
		r.Appends[0].Events[0].Payload = make([]byte, 3000*(i%7)) // some blocks end in the middle of a batch
		r.Appends[0].Events[0].Tags = []string{fmt.Sprint("tag:", i%3)}
		mustAppend(t, s, r)
	}
}

// otherViews returns which of the views are other than they were.
func otherViews(t *testing.T, want map[string]any, s *Store) (others []string) {
	t.Helper()
	got := views(t, s)
	for what := range want {
		if !reflect.DeepEqual(want[what], got[what]) {
			others = append(others, what)
		}
	}
	return others
}

// views is all that can be asked of a store about what it holds.
func views(t *testing.T, s *Store) map[string]any {
	t.Helper()
	ctx := context.Background()
	out := map[string]any{}
	all := func(what string, events iter.Seq2[eventstore.Recorded, error]) {
		var list []eventstore.Recorded
		for e, err := range events {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			e.Chain = eventstore.Hash{}
			list = append(list, e)
		}
		out[what] = list
	}
	state, err := s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out["log"] = state
	middle := eventstore.Position{Incarnation: state.ID.Incarnation, LSN: state.Durable.LSN / 3}
	for _, f := range []eventstore.Filter{{}, {Chain: true}, {Types: []string{"test.happened.v1"}}, {Query: eventstore.Tagged("tag:1")}, {Until: middle}, {MaxBytes: 4000}} {
		for _, after := range []eventstore.Position{{}, middle} {
			all(fmt.Sprintf("read all after %s: %+v", after, f), s.ReadAll(ctx, after, f))
			if !f.Chain {
				all(fmt.Sprintf("read all before %s: %+v", after, f), s.ReadAllBackwards(ctx, after, f))
			}
		}
	}
	for i := range 6 {
		stream := eventstore.Stream("order", fmt.Sprint(i))
		all(fmt.Sprint("read ", stream), s.Read(ctx, stream, 0))
		all(fmt.Sprint("read back ", stream), s.ReadBackwards(ctx, stream, 0))
		at, err := s.VersionAt(ctx, stream, middle)
		if err != nil {
			t.Fatal(err)
		}
		out[fmt.Sprint("version of ", stream)] = at
	}
	var frames []byte
	for piece, err := range s.ReadFrames(ctx, eventstore.Position{}, 1000) {
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, bytes.Join(piece.Parts, nil)...)
	}
	out["frames"] = frames
	first, err := s.PositionAt(ctx, archiveBegan.Add(7*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	out["position"] = first
	for i := range 60 {
		receipt, hash, err := s.Receipt(ctx, "", fmt.Sprint("request-", i))
		if err != nil && !errors.Is(err, eventstore.ErrNotFound) {
			t.Fatal(err)
		}
		out[fmt.Sprint("receipt ", i)] = []any{receipt, hash}
	}
	out["chain"] = slices.Collect(chainOf(t, s))
	return out
}

func chainOf(t *testing.T, s *Store) iter.Seq[eventstore.Hash] {
	return func(yield func(eventstore.Hash) bool) {
		sub, err := s.Subscribe(context.Background(), eventstore.Position{}, eventstore.Filter{Chain: true})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		for {
			chunk, err := sub.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range chunk.Events {
				if !yield(e.Chain) {
					return
				}
			}
			if chunk.Position == chunk.Durable {
				return
			}
		}
	}
}

var archiveBegan = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func mustArchive(t *testing.T, s *Store, o ArchiveOptions) ArchiveReport {
	t.Helper()
	if o.To == "" {
		o.To = testBucket
	}
	report, err := s.Archive(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// firstInLog returns the lsn of the first event that the database still has.
func firstInLog(t *testing.T, s *Store) uint64 {
	t.Helper()
	r, err := newBlockReader(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if found, err := r.from(1); err != nil || !found {
		t.Fatalf("the log's database is empty: %v", err)
	}
	return r.cur.first
}

// A log of which more and more is archived answers all that can be asked of it as it did before, also after it was opened
// anew and when its index is made anew; what is archived is not in the database (S28).
func TestArchivedLogReadsTheSame(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	now := archiveBegan
	o := archiveOptions(bucket)
	o.Clock, o.TailBytes = hlc.New(func() time.Time { return now }), 2000
	s := openAt(t, files, "data/store", o)
	fillForArchive(t, s, &now, 0, 50)
	want := views(t, s)
	check := func(when string) {
		t.Helper()
		if others := otherViews(t, want, s); len(others) > 0 {
			t.Fatalf("%s, the log reads otherwise: %q", when, others)
		}
		if faults := verify(t, s).Faults; len(faults) > 0 {
			t.Fatalf("%s: %s", when, faults)
		}
	}
	state, _ := s.Log(context.Background())
	head := state.Durable.LSN
	before := uint64(0)
	for _, o := range []ArchiveOptions{
		{Before: eventstore.Position{Incarnation: 1, LSN: 12}, SegmentBytes: 1},
		{Until: archiveBegan.Add(20 * time.Minute)},
		{KeepLast: head / 4, SegmentBytes: 20_000, To: "mem://another"},
		{SegmentBytes: 1},
	} {
		dry := o
		dry.DryRun = true
		said := mustArchive(t, s, dry)
		if at := s.archived.Load().end(); at != before {
			t.Fatalf("a dry run archived up to lsn %d", at)
		}
		report := mustArchive(t, s, o)
		said.Archived = report.Archived
		if report.Events == 0 || said != report {
			t.Fatalf("%+v archived %+v, a dry run had said %+v", o, report, said)
		}
		if first := firstInLog(t, s); report.Archived.LSN != report.Last.LSN || first != report.Last.LSN+1 || report.First.LSN != before+1 {
			t.Fatalf("archived %+v after lsn %d, the database begins at %d", report, before, first)
		}
		switch archived := report.Last.LSN; {
		case !o.Before.IsZero() && archived >= o.Before.LSN, archived > head-o.KeepLast, archived >= head:
			t.Fatalf("%+v archived up to lsn %d of %d", o, archived, head)
		}
		before = report.Last.LSN
		check("archived")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, files, "data/store", *openAgain(&now, bucket))
		check("opened again")
		if err := s.renewIndex(context.Background()); err != nil {
			t.Fatal(err)
		}
		check("its index made anew while it is open")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := files.RemoveAll("data/store/index"); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, files, "data/store", *openAgain(&now, bucket))
		check("its index made anew")
	}
	if report := mustArchive(t, s, ArchiveOptions{}); report.Events != 0 {
		t.Fatalf("archived again: %+v", report)
	}
	log, index := s.log.Metrics().Flush.Count, s.index.db.Metrics().Flush.Count
	fillForArchive(t, s, &now, 100, 1)
	mustArchive(t, s, ArchiveOptions{WholeSegments: true})
	if s.log.Metrics().Flush.Count != log || s.index.db.Metrics().Flush.Count != index {
		t.Error("databases were flushed though there was nothing to archive")
	}
	fillForArchive(t, s, &now, 50, 3)
	if report := mustArchive(t, s, ArchiveOptions{}); report.Events == 0 {
		t.Fatal("nothing of what came later was archived")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func openAgain(now *time.Time, b *memBucket) *Options {
	o := archiveOptions(b)
	o.Clock, o.TailBytes = hlc.New(func() time.Time { return *now }), 2000
	return &o
}

// What is archived is given back to the disk.
func TestArchivedSpaceIsFree(t *testing.T) {
	s := openMem(t, vfs.NewMem(), archiveOptions(newMemBucket()))
	payload := make([]byte, 100_000)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	for i := range 100 {
		r := request("", eventstore.Stream("order", fmt.Sprint(i)), eventstore.Any, 1)
		r.Appends[0].Events[0].Payload = payload
		mustAppend(t, s, r)
	}
	size := func() (n uint64) {
		if err := s.log.Flush(); err != nil {
			t.Fatal(err)
		}
		levels, err := s.log.SSTables()
		if err != nil {
			t.Fatal(err)
		}
		for _, level := range levels {
			for _, table := range level {
				n += table.Size
			}
		}
		return n
	}
	before := size()
	mustArchive(t, s, ArchiveOptions{})
	if after := size(); before < 9_000_000 || after > 200_000 {
		t.Errorf("tables have %d bytes, they had %d", after, before)
	}
}

// While the archive cannot be reached, what is in it is an error that names segment and place and passes; the store opens,
// appends, tells versions and reads what it has (S30).
func TestArchiveOutOfReach(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	now := archiveBegan
	s := openAt(t, files, "data/store", *openAgain(&now, bucket))
	fillForArchive(t, s, &now, 0, 50)
	report := mustArchive(t, s, ArchiveOptions{KeepLast: 20})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	down := errors.New("connection refused")
	bucket.before = func(string, string) error { return down }
	s = openMem(t, files, *openAgain(&now, bucket))
	ctx := context.Background()
	unavailable := func(what string, err error) {
		t.Helper()
		var gone *eventstore.ArchiveError
		if !errors.As(err, &gone) || gone.Location != testBucket || !strings.Contains(gone.Segment, "-") || !errors.Is(gone.Cause, down) ||
			!errors.Is(err, eventstore.ErrArchiveUnavailable) || !errors.Is(err, eventstore.ErrUnavailable) || eventstore.ClassOf(err) != eventstore.Transient {
			t.Fatalf("%s: %v, want an error that names the segment", what, err)
		}
	}
	_, err := collectEvents(s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}))
	unavailable("read all", err)
	_, err = collectEvents(s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Query: eventstore.Tagged("tag:1")}))
	unavailable("read by tag", err)
	_, err = collectEvents(s.Read(ctx, eventstore.Stream("order", "1"), 1))
	unavailable("read stream", err)
	_, _, err = s.Receipt(ctx, "", "request-1")
	unavailable("receipt", err)
	_, err = s.Archive(ctx, ArchiveOptions{To: testBucket, SegmentBytes: 1})
	unavailable("archive", err)

	if v, err := s.Version(ctx, eventstore.Stream("order", "1")); err != nil || v == 0 {
		t.Fatalf("version %d, %v", v, err)
	}
	fillForArchive(t, s, &now, 50, 3)
	newer, err := collectEvents(s.ReadAll(ctx, report.Archived, eventstore.Filter{}))
	if err != nil || len(newer) < 20 {
		t.Fatalf("%d events that are not archived, %v", len(newer), err)
	}
	bucket.before = func(string, string) error { return nil }
	all, err := collectEvents(s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}))
	if state, _ := s.Log(ctx); err != nil || uint64(len(all)) != state.Durable.LSN {
		t.Fatalf("%d events when the archive is there again, %v", len(all), err)
	}
}

// System events that are archived are read without the archive, but receipts and checkpoints that others have followed; so
// it is after their table was replaced by a repair (S30).
func TestSystemEventsAreKeptNear(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	now := archiveBegan
	o := *openAgain(&now, bucket)
	o.Checkpoints = []string{"checkpoint.v1"}
	s := openMem(t, files, o)
	ctx := context.Background()
	system := func(category, id, name string, n int) eventstore.StreamID {
		stream := eventstore.Stream(category, id)
		r := request("", stream, eventstore.Any, n)
		for i := range r.Appends[0].Events {
			r.Appends[0].Events[i].Type, r.Appends[0].Events[i].Kind = name, eventstore.KindSystem
		}
		mustAppend(t, s, r)
		return stream
	}
	schemas := system("$schemas", "shop", "registered.v1", 3)
	fillForArchive(t, s, &now, 0, 20)
	mustAppend(t, s, eventstore.Request{ID: "no events"})
	long := system("$group", "long", "checkpoint.v1", keptCheckpoints+5)
	fillForArchive(t, s, &now, 20, 20)
	mustArchive(t, s, ArchiveOptions{SegmentBytes: 30_000})
	bucket.before = func(string, string) error { return errors.New("away") }
	s.tail = newTail(1, s.recent.state())
	check := func() {
		t.Helper()
		for _, events := range []iter.Seq2[eventstore.Recorded, error]{
			s.Read(ctx, schemas, 1), s.ReadBackwards(ctx, schemas, 0), s.Read(ctx, long, 6),
			s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Categories: []string{"$schemas"}}),
		} {
			if got, err := collectEvents(events); err != nil || len(got) != 3 && len(got) != keptCheckpoints {
				t.Fatalf("%d events, %v", len(got), err)
			}
		}
		for _, events := range []iter.Seq2[eventstore.Recorded, error]{s.Read(ctx, long, 5), s.Read(ctx, eventstore.Stream("order", "1"), 1)} {
			if _, err := collectEvents(events); !errors.Is(err, eventstore.ErrArchiveUnavailable) {
				t.Fatalf("%v, want the archive to be needed", err)
			}
		}
		if _, _, err := s.Receipt(ctx, "", "no events"); !errors.Is(err, eventstore.ErrArchiveUnavailable) {
			t.Fatalf("receipt: %v, want the archive to be needed", err)
		}
	}
	check()
	if err := s.log.Compact(ctx, logMetaKey, afterBlocks, false); err != nil {
		t.Fatal(err)
	}
	tables, err := tablesOf(s.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if bytes.Equal(table.last, metaKey) { // the signpost, which is no part of the log
			continue
		}
		if err := s.repairTables(ctx, []tableRange{{first: table.first, last: table.last}}, &ScrubOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	check()
}

func collectEvents(events iter.Seq2[eventstore.Recorded, error]) (all []eventstore.Recorded, err error) {
	for e, err := range events {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// A segment that is not what was written is corrupt, when it is put and when it is read; the log keeps what it has not
// seen safe (S29).
// A log whose earlier life is archived starts while the archive is away, says how far it is held, and does not wait for the archive
// again and again (S30).
func TestEarlierLifeInArchiveOutOfReach(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	now := archiveBegan
	o := openAgain(&now, bucket)
	s := openAt(t, files, "data/store", *o)
	fillForArchive(t, s, &now, 0, 30)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	begin := *o
	begin.FS, begin.Logger = files, quietLog
	if err := BeginLife("data/store", 2, &begin); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, files, "data/store", *o)
	fillForArchive(t, s, &now, 30, 30)
	mustArchive(t, s, ArchiveOptions{KeepLast: 20})
	want, err := s.Heads(t.Context())
	if err := errors.Join(err, s.Close()); err != nil || len(want) != 2 || want[0].HLC == 0 {
		t.Fatalf("the log is held as %+v (%v)", want, err)
	}
	reads := 0
	bucket.before = func(string, string) error { reads++; return errors.New("connection refused") }
	s = openMem(t, files, *o)
	var once int
	for i := range 3 {
		heads, err := s.Heads(t.Context())
		if err != nil || len(heads) != 2 {
			t.Fatalf("while the archive is away: %+v, %v", heads, err)
		}
		want[0].HLC = 0
		if !slices.Equal(heads, want) {
			t.Errorf("while the archive is away the log is held as %+v, want %+v", heads, want)
		}
		if i == 0 {
			once = reads
		}
	}
	if once == 0 || reads != once {
		t.Errorf("the archive was read %d times at first, %d in all", once, reads)
	}
}

// The chain of an event that is archived is not waited for by who cannot, and that of any other is read without a look into the archive,
// in whichever life, and whosever the event is.
func TestChainHereReadsNoArchive(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	now := archiveBegan
	o := openAgain(&now, bucket)
	far := newElsewhere("far", 400, -time.Hour)
	for life := uint32(1); life <= 3; life++ {
		if life > 1 {
			begin := *o
			begin.FS, begin.Logger = files, quietLog
			if err := BeginLife("data/store", life, &begin); err != nil {
				t.Fatal(err)
			}
		}
		s := openAt(t, files, "data/store", *o)
		fillForArchive(t, s, &now, int(life)*100, 30)
		fillMixed(t, s, 20, far)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := openMem(t, files, *o)
	for _, keep := range []uint64{250, 150, 60, 10} {
		mustArchive(t, s, ArchiveOptions{KeepLast: keep})
		heads, err := s.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reads, held := 0, 0
		for _, h := range heads {
			for seq := uint64(1); seq < h.Seq; seq++ {
				want, _, err := s.ChainAt(t.Context(), h.Log, seq)
				if err != nil {
					t.Fatal(err)
				}
				archived, err := s.isArchived(h.Log, seq)
				place, placeErr := s.placeOf(h.Log, seq)
				if err != nil || placeErr != nil || archived != (place <= s.archived.Load().end()) {
					t.Fatalf("seq %d of %s is at lsn %d (%v), and archived: %t (%v)", seq, h.Log, place, placeErr, archived, err)
				}
				bucket.before = func(string, string) error { reads++; return errors.New("connection refused") }
				again, _, err := s.ChainHere(t.Context(), h.Log, seq)
				bucket.before = func(string, string) error { return nil }
				if err != nil || again != (eventstore.Hash{}) && again != want || archived == (again == want) {
					t.Fatalf("chain of %s at seq %d: %x, %v, want %x; archived: %t", h.Log, seq, again, err, want, archived)
				}
				if !archived {
					held++
				}
			}
		}
		if reads > 0 || held == 0 {
			t.Errorf("%d events are not archived; the archive was read %d times", held, reads)
		}
	}
}

func TestArchiveThatRots(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	now := archiveBegan
	s := openMem(t, files, *openAgain(&now, bucket))
	fillForArchive(t, s, &now, 0, 30)
	want := views(t, s)
	rot := func(name string) {
		bucket.mu.Lock()
		defer bucket.mu.Unlock()
		if b := bucket.objects[name]; len(b) > 0 {
			b[len(b)/3] ^= 4
		}
	}
	bucket.before = func(op, name string) error {
		if op == "read" {
			rot(name)
		}
		return nil
	}
	if _, err := s.Archive(context.Background(), ArchiveOptions{To: testBucket}); !errors.Is(err, eventstore.ErrCorrupt) || firstInLog(t, s) != 1 {
		t.Fatalf("archived what did not read back, or another error: %v; the database begins at %d", err, firstInLog(t, s))
	}
	bucket.before = func(string, string) error { return nil }
	mustArchive(t, s, ArchiveOptions{})
	if others := otherViews(t, want, s); len(others) > 0 {
		t.Fatalf("the log reads otherwise: %q", others)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name := range bucket.objects {
		rot(name)
	}
	s = openMem(t, files, *openAgain(&now, bucket))
	if faults := verify(t, s).Faults; len(faults) == 0 {
		t.Error("verify finds no fault in an archive that rots")
	}
	select {
	case <-s.Doubted(): // of what was read before
	default:
	}
	state, err := s.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report, err := s.Mend(t.Context(), state.ID, 0, math.MaxUint64, ScrubOptions{}); !errors.Is(err, eventstore.ErrArchiveDamaged) || len(report.Faults) > 0 {
		t.Errorf("to mend what an archive has ends with %v, %+v", err, report)
	}
	if _, err := collectEvents(s.ReadLog(t.Context(), state.ID, 0)); !errors.Is(err, eventstore.ErrArchiveDamaged) {
		t.Errorf("a read of what has rotted in the archive ends with %v", err)
	}
	select {
	case <-s.Doubted():
		t.Error("a scrub is to look into what is archived, which it does not see")
	default:
	}
}

// A log whose chain goes on otherwise than the archive ends is found out (S29).
func TestSeamOfArchiveAndLog(t *testing.T) {
	bucket, now := newMemBucket(), archiveBegan
	s := openMem(t, vfs.NewMem(), *openAgain(&now, bucket))
	fillForArchive(t, s, &now, 0, 20)
	mustArchive(t, s, ArchiveOptions{KeepLast: 10})
	r, err := s.blockReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if found, err := r.from(firstInLog(t, s)); err != nil || !found {
		t.Fatalf("no block behind the archive: %v", err)
	}
	good := bytes.Clone(r.raw)
	for what, change := range map[string]func(b *block){
		"": func(*block) {}, "chain": func(b *block) { b.chain[3] ^= 1 }, "seq": func(b *block) { b.before++ },
	} {
		b := r.cur
		change(&b)
		var w blockWriter
		w.reset(b.first, b.before, b.chain)
		w.buf, w.ends = append(w.buf, b.data...), make([]uint32, b.count)
		for i := range w.ends {
			w.ends[i] = binary.BigEndian.Uint32(b.ends[4*i:])
		}
		if err := s.log.Set(blockKey(b.last()), w.seal(), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if c, err := s.VerifyArchive(t.Context(), nil); err != nil || len(c.Faults) > 0 != (what != "") || what != "" && !strings.Contains(c.Faults[0], "does not go on") {
			t.Errorf("the log goes on with another %s: %q, %v", what, c.Faults, err)
		}
	}
	if err := s.log.Set(blockKey(r.cur.last()), good, pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

// A store may be closed while an archive is being opened, which then is closed too.
func TestArchiveOpenedWhileTheStoreCloses(t *testing.T) {
	opening, goOn := make(chan struct{}), make(chan struct{})
	s, err := Open(t.TempDir(), &Options{Logger: quietLog, OpenArchive: func(string) (archive.Bucket, error) {
		close(opening)
		<-goOn
		return newMemBucket(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustAppend(t, s, request("", eventstore.Stream("order", "1"), eventstore.Any, 2))
	}
	ended, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.Archive(context.Background(), ArchiveOptions{To: testBucket})
		ended <- err
	}()
	<-opening
	go func() { closed <- s.Close() }()
	<-s.done
	close(goOn)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a store that closed archived its events")
	}
	if err := s.archiveAt(testBucket).Check(context.Background(), &archive.Segment{Name: "1.segment", Bytes: 1}); err == nil {
		t.Error("an archive of a closed store is read")
	}
}

package pebblestore

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
)

var quietLog = slog.New(slog.NewTextHandler(io.Discard, nil))

// gate is a file system whose syncs of the log's WAL can be held up.
type gate struct {
	vfs.FS
	mu      sync.Mutex    // guards open
	open    chan struct{} // closed while syncs may pass
	waiting chan struct{} // gets a token from each sync that has to wait
}

func newGate(fs vfs.FS) *gate {
	g := &gate{open: make(chan struct{}), waiting: make(chan struct{}, 1000)}
	close(g.open)
	g.FS = watched(fs, func(op errorfs.Op) error {
		if isWALSync(op) {
			g.mu.Lock()
			open := g.open
			g.mu.Unlock()
			select {
			case <-open:
			default:
				g.waiting <- struct{}{}
				<-open
			}
		}
		return nil
	})
	return g
}

func isWALSync(op errorfs.Op) bool {
	sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	return sync && strings.Contains(op.Path, "/log/") && strings.HasSuffix(op.Path, ".log")
}

// shut holds up syncs from now on, until the function it returns is called.
func (g *gate) shut() (unshut func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := make(chan struct{})
	g.open = open
	return sync.OnceFunc(func() { close(open) })
}

// watched is a disk that asks the injector before each step. Files of the WAL that are used again are opened anew: errorfs
// gives them out unwrapped, so that their syncs would not be seen, and the disk in memory takes its lock of images twice
// for them, and hangs when an image is wanted in between.
func watched(disk vfs.FS, asked errorfs.InjectorFunc) vfs.FS {
	return reopened{errorfs.Wrap(disk, asked)}
}

// reopened is a disk on which a file that is used again is renamed and opened.
type reopened struct{ vfs.FS }

// ReuseForWrite implements vfs.FS.
func (d reopened) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return d.OpenReadWrite(newname, category)
}

func openMem(t testing.TB, fs vfs.FS, o Options) *Store {
	t.Helper()
	if o.FS = fs; o.Logger == nil {
		o.Logger = quietLog
	}
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func request(id string, stream eventstore.StreamID, expect eventstore.Expect, n int) eventstore.Request {
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i] = eventstore.Event{Type: "test.happened.v1", Payload: []byte("payload")}
	}
	return eventstore.Request{ID: id, Appends: []eventstore.StreamAppend{{Stream: stream, Expect: expect, Events: events}}}
}

// submit puts a request into the queue as Append does, and does not wait.
func submit(t *testing.T, s *Store, r eventstore.Request) *pending {
	t.Helper()
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	p := s.prepare(context.Background(), &r)
	if _, found, err := s.check(p); found || err != nil {
		t.Fatalf("check found %v, %v", found, err)
	}
	if err := s.stall.enter(context.Background(), p, s.room, s.opts.MaxQueueBytes); err != nil {
		t.Fatal(err)
	}
	if !s.queue.put(p) {
		t.Fatal("the queue is closed")
	}
	return p
}

func (p *pending) wait(t *testing.T) (eventstore.Receipt, error) {
	t.Helper()
	select {
	case <-p.done:
		return p.receipt, p.err
	case <-time.After(30 * time.Second):
		t.Fatal("no answer")
		panic("unreachable")
	}
}

// What is accepted but not yet synced must not show (S1): not to readers, not in a refusal, not in a duplicate's receipt.
func TestNothingUnsyncedShows(t *testing.T) {
	ctx := context.Background()
	g := newGate(vfs.NewMem())
	s := openMem(t, g, Options{})
	old := eventstore.Stream("order", "old")
	if _, err := s.Append(ctx, request("", old, eventstore.NoStream, 1)); err != nil {
		t.Fatal(err)
	}
	unshut := g.shut()
	defer unshut()

	a := eventstore.Stream("order", "a")
	first := submit(t, s, request("first", a, eventstore.NoStream, 2))
	<-g.waiting // its group is on the way to the disk
	second := submit(t, s, request("second", a, eventstore.Exactly(2), 1))
	conflict := submit(t, s, request("", a, eventstore.NoStream, 1))
	duplicate := submit(t, s, request("first", a, eventstore.NoStream, 2))
	reused := submit(t, s, request("first", a, eventstore.Any, 7))
	// This one rests on what is durable, so its answer comes at once, and tells that those before it were judged.
	settled := submit(t, s, request("", old, eventstore.Exactly(7), 1))
	if _, err := settled.wait(t); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("append: %v, want a conflict", err)
	}

	for name, p := range map[string]*pending{"first": first, "second": second, "conflict": conflict, "duplicate": duplicate, "reused": reused} {
		select {
		case <-p.done:
			t.Errorf("%s was answered (%v, %v) before the sync it rests on returned", name, p.receipt, p.err)
		default:
		}
	}
	if v, err := s.Version(ctx, a); v != 0 || err != nil {
		t.Errorf("version of an unsynced stream: %d, %v", v, err)
	}
	if state, err := s.Log(ctx); state.Durable.LSN != 1 || state.Streams != 1 || err != nil {
		t.Errorf("log: %+v, %v; want one event durable", state, err)
	}
	for e, err := range s.ReadAll(ctx, eventstore.Position{Incarnation: 1, LSN: 1}, eventstore.Filter{}) {
		t.Errorf("read an unsynced event: %v, %v", e, err)
	}
	for e, err := range s.Read(ctx, a, 1) {
		t.Errorf("read an unsynced event: %v, %v", e, err)
	}
	if _, _, err := s.Receipt(ctx, "", "first"); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("receipt of an unsynced request: %v, want %v", err, eventstore.ErrNotFound)
	}

	unshut()
	original, err := first.wait(t)
	if err != nil || original.Position.LSN != 3 {
		t.Fatalf("first: %+v, %v", original, err)
	}
	if receipt, err := second.wait(t); err != nil || receipt.Position.LSN != 4 {
		t.Fatalf("second: %+v, %v", receipt, err)
	}
	var found *eventstore.ConflictError
	if _, err := conflict.wait(t); !errors.As(err, &found) || found.Conflicts[0].Got != 3 {
		t.Fatalf("conflict: %v, want one at version 3", err)
	}
	original.Duplicate = true
	if receipt, err := duplicate.wait(t); err != nil || !cmp.Equal(receipt, original) {
		t.Fatalf("duplicate: %+v, %v; want %+v", receipt, err, original)
	}
	if _, err := reused.wait(t); !errors.Is(err, eventstore.ErrIDReused) {
		t.Fatalf("reused: %v, want %v", err, eventstore.ErrIDReused)
	}
}

// A condition over types is judged against the whole of a batch that is on the way to the disk, and its refusal waits until
// that is durable. Shows S1 and S16.
func TestConditionMeetsABatchOnItsWay(t *testing.T) {
	ctx := context.Background()
	g := newGate(vfs.NewMem())
	s := openMem(t, g, Options{})
	old := eventstore.Stream("order", "old")
	if _, err := s.Append(ctx, request("", old, eventstore.NoStream, 1)); err != nil {
		t.Fatal(err)
	}
	state, err := s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	unshut := g.shut()
	defer unshut()

	batch := submit(t, s, request("", eventstore.Stream("order", "a"), eventstore.NoStream, 3))
	<-g.waiting // its group is on the way to the disk
	r := request("", eventstore.Stream("order", "b"), eventstore.Any, 1)
	r.Condition = &eventstore.Condition{Query: eventstore.Query{{Types: []string{"test.happened.v1"}}}, After: state.Durable}
	refused := submit(t, s, r)
	// This one rests on what is durable, so its answer comes at once, and tells that those before it were judged.
	settled := submit(t, s, request("", old, eventstore.Exactly(7), 1))
	if _, err := settled.wait(t); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("append: %v, want a conflict", err)
	}
	select {
	case <-refused.done:
		t.Errorf("the condition was answered (%v, %v) before the sync that it rests on returned", refused.receipt, refused.err)
	default:
	}

	unshut()
	receipt, err := batch.wait(t)
	if err != nil || receipt.Position.LSN != 4 {
		t.Fatalf("batch: %+v, %v", receipt, err)
	}
	var found *eventstore.ConflictError
	if _, err := refused.wait(t); !errors.As(err, &found) || found.Condition == nil || found.Condition.Found != receipt.Position {
		t.Fatalf("condition: %v; want a conflict with the last event of the batch, at %s", err, receipt.Position)
	}
}

// What is on the way to the disk is known although later requests have begun a new generation: a duplicate of it gets the
// original's receipt.
func TestDuplicateOfTheOlderGeneration(t *testing.T) {
	g := newGate(vfs.NewMem())
	s := openMem(t, g, Options{IndexBatch: 2})
	old := eventstore.Stream("order", "old")
	if _, err := s.Append(context.Background(), request("", old, eventstore.NoStream, 1)); err != nil {
		t.Fatal(err)
	}
	unshut := g.shut()
	defer unshut()
	a := eventstore.Stream("order", "a")
	first := submit(t, s, request("first", a, eventstore.Any, 2)) // fills a generation
	<-g.waiting
	second := submit(t, s, request("second", a, eventstore.Any, 1))
	duplicate := submit(t, s, request("first", a, eventstore.Any, 2))
	// The answer tells that those before it were judged, while nothing of them is durable.
	settled := submit(t, s, request("", old, eventstore.Exactly(7), 1))
	if _, err := settled.wait(t); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("append: %v, want a conflict", err)
	}
	unshut()
	original, err := first.wait(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.wait(t); err != nil {
		t.Fatal(err)
	}
	original.Duplicate = true
	if receipt, err := duplicate.wait(t); err != nil || !cmp.Equal(receipt, original) {
		t.Fatalf("duplicate: %+v, %v; want %+v", receipt, err, original)
	}
}

// A caller that leaves does not take its request along, and a full queue makes callers wait, not fail.
func TestFullQueue(t *testing.T) {
	ctx := context.Background()
	g := newGate(vfs.NewMem())
	s := openMem(t, g, Options{MaxQueueBytes: 1}) // room for one request at a time
	unshut := g.shut()
	defer unshut()
	a := eventstore.Stream("order", "a")
	leaving, leave := context.WithCancel(ctx)
	left := make(chan error)
	go func() {
		_, err := s.Append(leaving, request("left", a, eventstore.NoStream, 1))
		left <- err
	}()
	<-g.waiting
	impatient, giveUp := context.WithTimeout(ctx, time.Millisecond)
	defer giveUp()
	if _, err := s.Append(impatient, request("", a, eventstore.Any, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append to a full queue: %v, want %v", err, context.DeadlineExceeded)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatalf("append: %v, want %v", err, context.Canceled)
	}
	unshut()
	receipt, err := s.Append(ctx, request("left", a, eventstore.NoStream, 1))
	if err != nil || !receipt.Duplicate || receipt.Position.LSN != 1 {
		t.Fatalf("repeated append: %+v, %v; want the receipt of the one that was left", receipt, err)
	}
}

// While the index cannot be filled, memory must not grow without bound: appends wait.
func TestAppendsWaitForTheIndex(t *testing.T) {
	ctx := context.Background()
	s := openMem(t, vfs.NewMem(), Options{IndexBatch: 10})
	s.indexer.mu.Lock() // the indexer cannot report, so what it does goes unseen
	s.indexer.behind = 10 * maxIndexLag
	s.indexer.mu.Unlock()
	a := eventstore.Stream("order", "a")
	held := make(chan struct{})
	go func() {
		defer close(held)
		s.indexer.hold()
	}()
	if _, err := s.Append(ctx, request("", a, eventstore.Any, 10)); err != nil { // fills a batch: the indexer turns
		t.Fatal(err)
	}
	select {
	case <-held:
	case <-time.After(30 * time.Second):
		t.Fatal("the indexer has caught up, and appends are still held back")
	}
}

// After a write that failed nothing is accepted, and nothing is said that rests on what was not written.
func TestNothingIsAcceptedAfterAFailedWrite(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	a := eventstore.Stream("order", "a")
	broken := errors.New("broken")
	if err := s.fail(broken); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	for name, p := range map[string]*pending{
		"append":    submit(t, s, request("id", a, eventstore.NoStream, 1)),
		"conflict":  submit(t, s, request("", a, eventstore.NoStream, 1)),
		"duplicate": submit(t, s, request("id", a, eventstore.NoStream, 1)),
	} {
		if _, err := p.wait(t); !errors.Is(err, eventstore.ErrReadOnly) || !errors.Is(err, broken) {
			t.Errorf("%s: %v, want %v and its cause", name, err, eventstore.ErrReadOnly)
		}
	}
	if _, err := s.Append(context.Background(), request("", a, eventstore.Any, 1)); !errors.Is(err, eventstore.ErrReadOnly) {
		t.Errorf("append: %v, want %v", err, eventstore.ErrReadOnly)
	}
	if state, err := s.Log(context.Background()); err != nil || state.Durable.LSN != 0 {
		t.Errorf("log: %+v, %v", state, err)
	}
}

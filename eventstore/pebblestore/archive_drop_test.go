package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// droppedRig is a log whose events are archived, and what could be asked of it before any were dropped.
type droppedRig struct {
	files  *vfs.MemFS
	bucket *memBucket
	store  *Store
	want   map[string]any
	events []eventstore.Recorded // of the log, with payloads
}

func newDroppedRig(t *testing.T) *droppedRig {
	t.Helper()
	r := &droppedRig{files: vfs.NewMem(), bucket: newMemBucket()}
	now := archiveBegan
	r.store = openAt(t, r.files, "data/store", *openAgain(&now, r.bucket))
	schemas := request("", eventstore.Stream("$schemas", "shop"), eventstore.Any, 1)
	schemas.Appends[0].Events[0].Kind = eventstore.KindSystem
	schemas.Appends[0].Events[0].Payload = []byte("kept whole")
	mustAppend(t, r.store, schemas)
	fillForArchive(t, r.store, &now, 0, 50)
	r.want = views(t, r.store)
	var err error
	if r.events, err = collectEvents(r.store.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{})); err != nil {
		t.Fatal(err)
	}
	mustArchive(t, r.store, ArchiveOptions{SegmentBytes: 20_000, KeepLast: 20})
	return r
}

// check wants a store to give out no event up to an lsn but the system's, to say so, and to know all else as before.
func (r *droppedRig) check(t *testing.T, s *Store, dropped uint64) {
	t.Helper()
	ctx := context.Background()
	first := s.position(dropped + 1)
	refused := func(what string, err error) {
		t.Helper()
		var truncated *eventstore.TruncatedError
		if !errors.As(err, &truncated) || truncated.First != first || !errors.Is(err, eventstore.ErrTruncated) {
			t.Fatalf("%s: %v, want events before %s to be dropped", what, err, first)
		}
	}
	for _, f := range []eventstore.Filter{{}, {Chain: true}, {Query: eventstore.Tagged("tag:1")}, {Types: []string{"test.happened.v1"}}, {Categories: []string{"order"}}} {
		got, err := collectEvents(s.ReadAll(ctx, eventstore.Position{}, f))
		refused(fmt.Sprintf("read all %+v", f), err)
		if slices.ContainsFunc(got, func(e eventstore.Recorded) bool { return e.Stream.Category != "$schemas" }) {
			t.Fatalf("%+v gave out %d events before it said that they were dropped", f, len(got))
		}
		if !f.Chain {
			_, err = collectEvents(s.ReadAllBackwards(ctx, eventstore.Position{}, f))
			refused(fmt.Sprintf("read back %+v", f), err)
		}
	}
	rest, err := collectEvents(s.ReadAll(ctx, s.position(dropped), eventstore.Filter{}))
	if err != nil || !sameEvents(rest, r.events[dropped:]) {
		t.Fatalf("what is left reads otherwise: %d events of %d, %v", len(rest), len(r.events[dropped:]), err)
	}
	for _, f := range []eventstore.Filter{{Categories: []string{"$schemas"}}} {
		if got, err := collectEvents(s.ReadAll(ctx, eventstore.Position{}, f)); err != nil || !sameEvents(got, r.events[:1]) {
			t.Fatalf("system events: %v, %v", got, err)
		}
		sub, err := s.Subscribe(ctx, eventstore.Position{}, f)
		if err != nil {
			t.Fatal(err)
		}
		if chunk, err := sub.Next(ctx); err != nil || !sameEvents(chunk.Events, r.events[:1]) {
			t.Fatalf("subscribed to system events: %v, %v", chunk.Events, err)
		}
		sub.Close()
	}
	if got, err := collectEvents(s.Read(ctx, r.events[0].Stream, 1)); err != nil || !sameEvents(got, r.events[:1]) {
		t.Fatalf("system stream: %v, %v", got, err)
	}
	for i := range 5 {
		stream := eventstore.Stream("order", fmt.Sprint(i))
		_, err := collectEvents(s.Read(ctx, stream, 1))
		refused("read "+stream.String(), err)
		at, err := s.VersionAt(ctx, stream, s.position(dropped))
		if err != nil {
			t.Fatal(err)
		}
		rest, err := collectEvents(s.Read(ctx, stream, at+1))
		if err != nil {
			t.Fatal(err)
		}
		if head, err := s.Version(ctx, stream); err != nil || uint64(len(rest)) != head-at || head != r.want[fmt.Sprint("head of ", stream)] {
			t.Fatalf("stream %s is at version %d, %d events after %d, %v", stream, head, len(rest), at, err)
		}
		back, err := collectEvents(s.ReadBackwards(ctx, stream, 0))
		refused("read back "+stream.String(), err)
		if slices.Reverse(back); !sameEvents(back, rest) {
			t.Fatalf("%d events are read back, want the %d that are left", len(back), len(rest))
		}
		for f, err := range s.ReadStreamFrames(ctx, stream, 1, 1000) {
			if refused("read frames of "+stream.String(), err); f.Count > 0 {
				t.Fatalf("%d frames came", f.Count)
			}
		}
	}
	_, err = s.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{})
	refused("subscribe", err)
	for _, err := range s.ReadFrames(ctx, eventstore.Position{}, 1000) {
		refused("read frames", err)
	}
	for i := range 50 {
		receipt, hash, err := s.Receipt(ctx, "", fmt.Sprint("request-", i))
		was := r.want[fmt.Sprint("receipt ", i)].([]any)
		want := was[0].(eventstore.Receipt)
		want.First.Incarnation, want.Position.Incarnation = s.id.Incarnation, s.id.Incarnation
		if err != nil || !reflect.DeepEqual([]any{receipt, hash}, []any{want, was[1]}) {
			t.Fatalf("receipt of request %d is %+v, %v", i, receipt, err)
		}
	}
	if faults := verify(t, s).Faults; len(faults) > 0 {
		t.Fatalf("verify: %s", faults)
	}
	r.gone(t, s, dropped)
}

// gone wants no payload of what was dropped to be left in the bucket, and nothing there that is not the log's.
func (r *droppedRig) gone(t *testing.T, s *Store, dropped uint64) {
	t.Helper()
	found, err := s.VerifyArchive(context.Background(), nil)
	if err != nil || len(found.Faults)+len(found.Unused) > 0 {
		t.Fatalf("verify archive: %+v, %v", found, err)
	}
	for _, segment := range s.Archived() {
		if segment.Last <= dropped && bytes.Contains(r.bucket.objects[segment.Name], []byte("payload")) {
			t.Fatalf("segment %s has payloads, although events up to %d were dropped", segment.Name, dropped)
		}
	}
}

// sameEvents compares what events say; their positions are of the log that has them.
func sameEvents(got, want []eventstore.Recorded) bool {
	return slices.EqualFunc(got, want, func(a, b eventstore.Recorded) bool {
		a.Chain, b.Chain, a.Position.Incarnation, b.Position.Incarnation = eventstore.Hash{}, eventstore.Hash{}, 0, 0
		return reflect.DeepEqual(a, b)
	})
}

// Events that were dropped are given out by no way of reading, every one of them says from where on there are events, and no
// payload of theirs is left; all else is as before: what is left, system events, versions, receipts, the chain. So it is when
// the log is opened anew, its index is lost, and it is restored from a backup (S31).
func TestDroppedEvents(t *testing.T) {
	r := newDroppedRig(t)
	ctx := context.Background()
	for i := range 5 {
		stream := eventstore.Stream("order", fmt.Sprint(i))
		head, err := r.store.Version(ctx, stream)
		if err != nil {
			t.Fatal(err)
		}
		r.want[fmt.Sprint("head of ", stream)] = head
	}
	before := DropOptions{Before: r.store.position(60)}
	before.Followers = []Follower{{Name: "mirror", At: r.store.position(5)}, {Name: "projection sales", At: r.store.position(120)}}
	if _, err := r.store.Drop(ctx, before); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "mirror is at 1-5") || strings.Contains(err.Error(), "sales") {
		t.Fatalf("dropped what the mirror needs: %v", err)
	}
	before.Followers, before.DryRun = nil, true
	said, err := r.store.Drop(ctx, before)
	if err != nil || said.Events == 0 || said.Freed <= 0 {
		t.Fatalf("a dry run says %+v, %v", said, err)
	}
	behind := said.First.LSN + said.Events - 1 // the last that would be dropped
	before.Followers = []Follower{{Name: "saga", At: r.store.position(behind - 1)}}
	if _, err := r.store.Drop(ctx, before); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "saga") {
		t.Fatalf("dropped the one event that a saga has still to read: %v", err)
	}
	before.Followers[0].At = r.store.position(behind)
	if _, err := r.store.Drop(ctx, before); err != nil {
		t.Fatalf("who has read all that would be dropped is waited for: %v", err)
	}
	before.Followers, before.DryRun = nil, false
	for range 2 {
		done, err := r.store.Drop(ctx, before)
		if err != nil || done.First.LSN == 1 || done.First.LSN > 60 {
			t.Fatalf("dropped %+v, %v", done, err)
		}
		if done.Events != said.Events || done.Freed != said.Freed {
			t.Fatalf("dropped %+v, a dry run had said %+v", done, said)
		}
		said = DropReport{}
	}
	dropped := r.store.dropped.Load()
	r.check(t, r.store, dropped)
	mustBackUp(t, r.store, "data/backup")
	mustRestore(t, r.files, "data/backup", "data/restored", RestoreOptions{})
	restored := openAt(t, r.files, "data/restored", Options{})
	r.check(t, restored, dropped)
	now := archiveBegan
	for _, lose := range []bool{false, true} {
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		if lose {
			if err := r.files.RemoveAll("data/store/index"); err != nil {
				t.Fatal(err)
			}
		}
		r.store = openAt(t, r.files, "data/store", *openAgain(&now, r.bucket))
		r.check(t, r.store, dropped)
	}
	if done, err := r.store.Drop(ctx, DropOptions{}); err != nil || done.First.LSN != r.store.archived.Load().end()+1 {
		t.Fatalf("dropped all that is archived: %+v, %v", done, err)
	}
	r.check(t, r.store, r.store.dropped.Load())
}

// What is in memory of a stream is not given out once it was dropped (S31).
func TestDroppedStreamInMemory(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{OpenArchive: newMemBucket().open, TailBytes: 1})
	stream := eventstore.Stream("order", "1")
	for range 10 {
		mustAppend(t, s, request("", stream, eventstore.Any, 1))
	}
	mustArchive(t, s, ArchiveOptions{SegmentBytes: 1})
	head, err := s.Version(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := collectEvents(s.Read(t.Context(), stream, 1)); err != nil || uint64(len(got)) != head {
		t.Fatalf("%d events, %v", len(got), err)
	}
	if _, frames := s.streamCache.get(headKeyOf(stream)); frames == nil {
		t.Fatal("the stream is not in memory")
	}
	if _, err := s.Drop(t.Context(), DropOptions{Before: s.position(6)}); err != nil {
		t.Fatal(err)
	}
	dropped := s.dropped.Load()
	if _, err := collectEvents(s.Read(t.Context(), stream, 1)); !errors.Is(err, eventstore.ErrTruncated) || dropped == 0 {
		t.Errorf("dropped up to %d, read: %v", dropped, err)
	}
	for f, err := range s.ReadStreamFrames(t.Context(), stream, 1, 1000) {
		if !errors.Is(err, eventstore.ErrTruncated) || f.Count > 0 {
			t.Errorf("%d frames are read, %v", f.Count, err)
		}
	}
	if got, err := collectEvents(s.Read(t.Context(), stream, dropped+1)); err != nil || uint64(len(got)) != head-dropped {
		t.Errorf("%d events are left, %v", len(got), err)
	}
	for _, count := range []uint64{0, 1, dropped, head} {
		if got, err := s.LastDots(t.Context(), stream, count); err != nil || got.At(s.id) != count || len(got) > 1 {
			t.Errorf("of the first %d events the last is %v, %v", count, got, err)
		}
	}
}

// Whatever fails while events are dropped, each is either there with its content or refused, and the next try ends it (S31).
func TestDropThatFails(t *testing.T) {
	down := errors.New("connection reset")
	for failAt := 1; ; failAt++ {
		r := newDroppedRig(t)
		ops := 0
		r.bucket.before = func(string, string) error {
			if ops++; ops == failAt {
				return down
			}
			return nil
		}
		_, err := r.store.Drop(context.Background(), DropOptions{Before: r.store.position(60)})
		if err != nil && !errors.Is(err, eventstore.ErrArchiveUnavailable) {
			t.Fatalf("operation %d failed: %v", failAt, err)
		}
		failed := err != nil
		r.bucket.before = func(string, string) error { return nil }
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		now := archiveBegan
		r.store = openAt(t, r.files, "data/store", *openAgain(&now, r.bucket))
		left, err := collectEvents(r.store.ReadAll(context.Background(), r.store.position(r.store.dropped.Load()), eventstore.Filter{}))
		if err != nil || !sameEvents(left, r.events[r.store.dropped.Load():]) {
			t.Fatalf("operation %d failed: %d events are left after lsn %d, %v", failAt, len(left), r.store.dropped.Load(), err)
		}
		if _, err := r.store.Drop(context.Background(), DropOptions{Before: r.store.position(60)}); err != nil {
			t.Fatal(err)
		}
		found, err := r.store.VerifyArchive(context.Background(), nil)
		if err != nil || len(found.Faults) > 0 || r.store.dropped.Load() == 0 {
			t.Fatalf("operation %d failed: then %+v, %v", failAt, found, err)
		}
		for _, segment := range r.store.Archived() {
			if segment.Last <= r.store.dropped.Load() && bytes.Contains(r.bucket.objects[segment.Name], []byte("payload")) {
				t.Fatalf("operation %d failed: segment %s still has payloads", failAt, segment.Name)
			}
		}
		for name, body := range r.bucket.objects {
			if slices.Contains(found.Unused, name) && bytes.Contains(body, []byte("payload")) {
				t.Fatalf("operation %d failed: %s still has payloads", failAt, name)
			}
		}
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		if !failed {
			if failAt < 8 {
				t.Fatalf("only %d operations", failAt)
			}
			return
		}
	}
}

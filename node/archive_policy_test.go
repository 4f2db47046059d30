package node

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// A node that is told where to archives by itself what is old enough, says so in its status, and says what keeps it from
// going on.
func TestArchivePolicy(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "archive")
	n, err := Open(t.Context(), Config{
		Data: t.TempDir(), Kafka: "off", ClickHouse: "off", HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Domains: []Domain{{Name: "none"}},
		ArchiveTo: folder, ArchiveAfter: time.Hour, archiveSegment: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	for range 5 {
		_, err := n.local.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := n.archiveOld(ctx); err != nil {
		t.Fatal(err)
	}
	if s := n.archiveStatus(); s.GetEvents() != 0 || s.GetTo() != folder || s.GetAfterSeconds() != 3600 {
		t.Errorf("nothing is an hour old, the status is %v", s)
	}
	n.config.ArchiveAfter = -time.Minute
	if err := n.archiveOld(ctx); err != nil {
		t.Fatal(err)
	}
	s := n.archiveStatus()
	if s.GetEvents() < 4 || s.GetSegments() < 4 || s.GetBytes() == 0 || n.sample().ArchivedEvents != s.GetEvents() {
		t.Errorf("all is old enough, the status is %v", s)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.local.Append(ctx, eventstore.Request{ID: "one more"}); err != nil {
		t.Fatal(err)
	}
	if err := n.archiveOld(ctx); !errors.Is(err, eventstore.ErrArchiveUnavailable) || !strings.Contains(err.Error(), folder) {
		t.Errorf("archived into a file: %v", err)
	}
}

// Events that something which follows the log has still to read are not dropped, and it is named. Shows S32.
func TestDropWaitsForFollowers(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "archive")
	n, err := Open(t.Context(), Config{
		Data: t.TempDir(), Kafka: "off", ClickHouse: "off", HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Domains: []Domain{{Name: "none"}},
		ArchiveTo: folder, ArchiveAfter: time.Hour, DropAfter: time.Hour, archiveSegment: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	if _, err := n.groups.Create(ctx, "readers", groups.Settings{}); err != nil {
		t.Fatal(err)
	}
	note := eventstore.Stream("note", "1")
	for range 5 {
		_, err := n.local.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: note, Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	n.config.ArchiveAfter, n.config.DropAfter = -time.Minute, -time.Minute
	if err := n.archiveOld(ctx); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "group readers") {
		t.Fatalf("dropped what a group has not read: %v", err)
	}
	if err := n.groups.Delete(ctx, "readers", ""); err != nil {
		t.Fatal(err)
	}
	if err := n.archiveOld(ctx); err != nil {
		t.Fatal(err)
	}
	var dropped *eventstore.TruncatedError
	for _, err := range n.local.Read(ctx, note, 1) {
		if !errors.As(err, &dropped) || dropped.First.String() != n.archiveStatus().GetFirst() {
			t.Fatalf("read what was dropped: %v", err)
		}
	}
}

// What the mirror, the projections and the sagas have not read is not dropped either, and each is named. Shows S32.
func TestDropWaitsForEachFollower(t *testing.T) {
	n, err := Open(t.Context(), Config{
		Data: t.TempDir(), Redis: "127.0.0.1:1", ClickHouse: "off", HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 5 { // nothing reads them: the node does not run
		_, err := n.local.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.local.Archive(t.Context(), pebblestore.ArchiveOptions{To: filepath.Join(t.TempDir(), "archive"), SegmentBytes: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = n.drop(t.Context(), pebblestore.DropOptions{Until: time.Now()})
	for _, name := range []string{"the mirror to Kafka", "projection shop-redis", "saga checkout", "saga returns"} {
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), name+" is at ") {
			t.Errorf("dropped what %s has not read: %v", name, err)
		}
	}
}

// A policy that cannot be kept is refused at start.
func TestArchivePolicyIsChecked(t *testing.T) {
	for _, c := range []Config{
		{ArchiveTo: "/x"}, {ArchiveAfter: time.Hour}, {ArchiveTo: "/x", ArchiveAfter: -1}, {ArchiveTo: "s3:///x", ArchiveAfter: time.Hour},
		{DropAfter: time.Hour}, {ArchiveTo: "/x", ArchiveAfter: time.Hour, DropAfter: time.Minute},
		{ArchiveTo: "gs://bucket/x", ArchiveAfter: time.Hour}, {ArchiveTo: "s3://b?endpoint=nonsense", ArchiveAfter: time.Hour},
	} {
		if err := c.checkArchivePolicy(); err == nil {
			t.Errorf("archive to %q after %s was not refused", c.ArchiveTo, c.ArchiveAfter)
		}
	}
}

// A place in one of the node's own folders is refused, through a link too, for what is derived there is made anew.
func TestArchivePlace(t *testing.T) {
	data, keys, elsewhere := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, storeFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	link, file := filepath.Join(elsewhere, "link"), filepath.Join(elsewhere, "file")
	if err := os.Symlink(filepath.Join(data, storeFolder), link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{
		data, filepath.Join(data, "store", "index"), "file://" + filepath.Join(data, "new", "folder"), filepath.Join(link, "index"), keys, file, "http://host/x", "",
	} {
		if got, err := archivePlace(place, data, keys); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("archive to %q: %q, %v", place, got, err)
		}
	}
	for _, place := range []string{elsewhere, filepath.Join(elsewhere, "new"), data + "-archive", filepath.Dir(data), "s3://bucket/prefix"} {
		if got, err := archivePlace(place, data, "", keys); err != nil || got != place {
			t.Errorf("archive to %q: %q, %v", place, got, err)
		}
	}
}

// An age that no duration holds is refused, and not taken for another one.
func TestAgo(t *testing.T) {
	for _, seconds := range []int64{-1, 10_000_000_000, math.MaxInt64} {
		if at, err := ago(seconds); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%d seconds ago was %s (%v)", seconds, at, err)
		}
	}
	if at, err := ago(9_000_000_000); err != nil || at.After(time.Now().Add(-285*365*24*time.Hour)) {
		t.Errorf("285 years ago was %s (%v)", at, err)
	}
}

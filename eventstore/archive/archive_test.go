package archive

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// segmentOf makes a segment of blocks of random sizes, each of one to five events.
func segmentOf(rng *rand.Rand, first uint64, blocks int) (s *Segment, body []byte, of map[uint64][]byte) {
	var w Writer
	of = map[uint64][]byte{}
	next := first
	for range blocks {
		block := make([]byte, 1+rng.IntN(100_000))
		for i := range block {
			block[i] = byte(rng.Uint32())
		}
		last := next + uint64(rng.IntN(5))
		for ; next <= last; next++ {
			of[next] = block
		}
		w.Add(last, block)
	}
	s = &Segment{First: first, Last: next - 1}
	return s, w.Seal("site/shard-00", s), of
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Each block of a segment comes back by the lsn of each of its events, to many readers at once, however little the cache
// holds.
func TestBlocksComeBack(t *testing.T) {
	rng, ctx := seeded(t), context.Background()
	s, body, of := segmentOf(rng, 1000, 20)
	for _, cache := range []int64{1, 600_000, 1 << 30} {
		a := New("somewhere", NewFolder(filepath.Join(t.TempDir(), "a", "b")), &Options{CacheBytes: cache})
		if err := a.Put(ctx, s, body, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for lsn, want := range of {
					got, last, err := a.Block(s, lsn)
					if err != nil || !bytes.Equal(got, want) || last < lsn || !bytes.Equal(of[last], want) {
						t.Errorf("block of lsn %d has %d bytes and ends at %d, want %d bytes; %v", lsn, len(got), last, len(want), err)
						return
					}
				}
			})
		}
		readers.Wait()
		if a.chunks.bytes > max(cache, chunkBytes) {
			t.Errorf("the cache holds %d bytes, may hold %d", a.chunks.bytes, cache)
		}
	}
}

// A segment whose file has changed in any place does not pass for what was put, and one that is not there is unavailable
// until it is.
func TestChangedAndMissingSegments(t *testing.T) {
	rng, ctx := seeded(t), context.Background()
	s, body, of := segmentOf(rng, 1, 5)
	dir := t.TempDir()
	a := New(dir, NewFolder(dir), nil)
	if err := a.Put(ctx, s, body, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.FromSlash(s.Name))
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	table := int(s.tableAt())
	for _, at := range []int{0, table / 2, table, table + 9, len(body) - footerBytes, len(body) - 10, len(body) - 1} {
		changed := bytes.Clone(body)
		changed[at] ^= 1
		write(changed)
		if err := a.Check(ctx, s); !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), s.Name) {
			t.Errorf("checked with byte %d changed: %v, want an error that names it", at, err)
		}
		if _, _, err := New(dir, NewFolder(dir), nil).Block(s, 1); at >= table && !errors.Is(err, eventstore.ErrCorrupt) {
			t.Errorf("read with byte %d of the table changed: %v", at-table, err)
		}
	}
	write(body[:len(body)-1])
	if err := a.Check(ctx, s); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("checked with a byte too few: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a = New(dir, NewFolder(dir), nil)
	var gone *eventstore.ArchiveError
	if _, _, err := a.Block(s, 1); !errors.As(err, &gone) || gone.Segment != s.Name || gone.Location != dir || !errors.Is(gone.Cause, ErrNoObject) {
		t.Errorf("read what is not there: %v", err)
	}
	write(body)
	if got, _, err := a.Block(s, 1); err != nil || !bytes.Equal(got, of[1]) {
		t.Errorf("read when it was there again: %v", err)
	}
	a = New(dir, NewFolder(dir), nil)
	a.Close()
	if _, _, err := a.Block(s, s.Last); !errors.Is(err, eventstore.ErrArchiveUnavailable) {
		t.Errorf("read of a closed archive: %v", err)
	}
}

// TestLocation shows how places are recorded.
func TestLocation(t *testing.T) {
	for given, want := range map[string]string{
		"/a/b/":                      "/a/b",
		"file:///a/b":                "/a/b",
		"s3://bucket/p/q/":           "s3://bucket/p/q",
		"s3://bucket?endpoint=x%3A1": "s3://bucket?endpoint=x%3A1",
		"":                           "",
		"s3://key:secret@bucket/p":   "",
		"s3:///p":                    "",
		"file://host/p":              "",
	} {
		got, err := Location(given)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("location of %q is %q, %v; want %q", given, got, err, want)
		}
	}
}

// A file system that does not answer holds up nobody for longer than a read may take.
func TestFolderThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	hung := filepath.Join(dir, "1.segment")
	if err := syscall.Mkfifo(hung, 0o600); err != nil { // to open one is to wait for who writes to it
		t.Fatal(err)
	}
	a := New(dir, NewFolder(dir), &Options{Patience: 50 * time.Millisecond})
	defer a.Close()
	err := a.Check(t.Context(), &Segment{Name: "1.segment", First: 1, Last: 1, Bytes: 10})
	if !errors.Is(err, eventstore.ErrArchiveUnavailable) {
		t.Errorf("reading from it: %v, want %v", err, eventstore.ErrArchiveUnavailable)
	}
	writer, err := os.OpenFile(hung, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
}

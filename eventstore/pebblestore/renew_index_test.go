package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
)

// An index that cannot be opened once it is in its place leaves nobody with an empty one, in which every stream is at
// version 0: nothing is read nor accepted, the store closes, and the next start makes the index anew. Shows S3 and S6.
func TestIndexThatCannotBePutInPlace(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, files vfs.FS, dir string) error // of the new index, when it has its place
	}{
		{"it cannot be reached", func(*testing.T, vfs.FS, string) error { return errors.New("no more descriptors") }},
		{"it is damaged", func(t *testing.T, files vfs.FS, dir string) error {
			names, err := files.List(dir)
			if err != nil {
				t.Error(err)
			}
			for _, name := range names {
				if strings.HasPrefix(name, "MANIFEST") {
					overwrite(t, files, path.Join(dir, name))
				}
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := vfs.NewMem()
			const dir = "data/store/index"
			var armed atomic.Bool
			disk := watched(files, func(op errorfs.Op) error {
				if op.Kind == errorfs.OpOpenDir && op.Path == dir && armed.CompareAndSwap(true, false) {
					return c.damage(t, files, dir)
				}
				if op.Kind == errorfs.OpRename && op.Path == dir+".new" {
					armed.Store(true)
				}
				return nil
			})
			s, err := Open("data/store", &Options{FS: disk, Logger: quietLog, IndexBatch: 100})
			if err != nil {
				t.Fatal(err)
			}
			stream := eventstore.Stream("order", "1")
			ctx, cancel := context.WithCancel(t.Context())
			f := &filler{acked: map[string]eventstore.Receipt{}}
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.run(ctx, s, "load")
			}()
			await(t, "some appends", func() bool { return len(f.all()) > 300 })
			if err := s.renewIndex(t.Context()); err == nil {
				t.Error("the index was renewed: the test shows nothing")
			}
			if _, err := s.Append(t.Context(), request("late", stream, eventstore.NoStream, 1)); !errors.Is(err, eventstore.ErrReadOnly) {
				t.Errorf("append without an index: %v", err)
			}
			if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) {
				t.Errorf("Writable says %v", err)
			}
			cancel()
			<-done
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			again := openMem(t, files, Options{})
			checkRecovered(t, again, f.all())
			if faults := verify(t, again).Faults; len(faults) > 0 {
				t.Error(fmt.Sprint(faults))
			}
		})
	}
}

// An index takes the old one's place, and appends go on, while a reader waits for an archive that does not answer.
func TestRenewalWaitsForNoReader(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{IndexBatch: 10})
	stream := eventstore.Stream("order", "1")
	for range 30 {
		mustAppend(t, s, request("", stream, eventstore.Any, 1))
	}
	release, err := s.use() // as a reader does
	if err != nil {
		t.Fatal(err)
	}
	renewed := make(chan error, 1)
	go func() { renewed <- s.renewIndex(t.Context()) }()
	select {
	case err := <-renewed:
		if err != nil {
			t.Error(err)
		}
		mustAppend(t, s, request("", stream, eventstore.Exactly(30), 1))
		release()
	case <-time.After(time.Minute):
		t.Error("the renewal waits for a reader")
		release()
		if err := <-renewed; err != nil {
			t.Error(err)
		}
	}
	if faults := verify(t, s).Faults; len(faults) > 0 {
		t.Error(faults)
	}
}

func overwrite(t *testing.T, files vfs.FS, path string) {
	t.Helper()
	file, err := files.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = file.Write([]byte("not a manifest"))
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// Events are not archived beside those of a place that is not what it was, such as a disk that is not mounted.
func TestArchivePlaceThatIsAway(t *testing.T) {
	bucket := newMemBucket()
	s := openMem(t, vfs.NewMem(), Options{OpenArchive: bucket.open})
	for i := range 4 {
		mustAppend(t, s, request("", eventstore.Stream("order", fmt.Sprint(i)), eventstore.Any, 3))
		if i == 1 {
			mustArchive(t, s, ArchiveOptions{})
		}
	}
	away := bucket.objects
	bucket.objects = map[string][]byte{}
	if report, err := s.Archive(t.Context(), ArchiveOptions{To: testBucket}); !errors.Is(err, eventstore.ErrArchiveUnavailable) || len(bucket.objects) > 0 {
		t.Fatalf("archived %+v beside what is away: %v", report, err)
	}
	bucket.objects = away
	mustArchive(t, s, ArchiveOptions{})
}

// A segment that is damaged is named with its place, also by who looks; when it is put back it is read again, though the damage
// was in memory.
func TestSegmentThatIsPutBack(t *testing.T) {
	bucket := newMemBucket()
	s := openMem(t, vfs.NewMem(), Options{OpenArchive: bucket.open, TailBytes: 1})
	for i := range 3 {
		mustAppend(t, s, request("", eventstore.Stream("order", fmt.Sprint(i)), eventstore.Any, 3))
	}
	mustArchive(t, s, ArchiveOptions{})
	name := s.Archived()[0].Name
	good := bytes.Clone(bucket.objects[name])
	bad := bytes.Clone(good)
	bad[len(bad)/4] ^= 1
	bucket.objects[name] = bad
	read := func() (err error) {
		for _, err = range s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	var damage *eventstore.ArchiveDamageError
	if err := read(); !errors.As(err, &damage) || damage.Segment != name || damage.Location != testBucket || !errors.Is(err, eventstore.ErrDamaged) || !errors.Is(err, eventstore.ErrCorrupt) {
		t.Fatalf("a damaged segment is read: %v", err)
	}
	for f, err := range s.ReadFrames(t.Context(), eventstore.Position{}, 1000) {
		if !errors.Is(err, eventstore.ErrArchiveDamaged) {
			t.Fatalf("%d frames of a damaged segment are read: %v", f.Count, err)
		}
	}
	faults := func() []error { return s.ArchivePlaces()[0].Faults }
	s.LookAtArchives(t.Context())
	if f := faults(); len(f) != 1 || !errors.Is(f[0], eventstore.ErrArchiveDamaged) {
		t.Errorf("the archive has the faults %v", f)
	}
	if c, err := s.VerifyArchive(t.Context(), nil); err != nil || len(c.Faults) != 1 {
		t.Errorf("a damaged segment has faults %v (%v)", c.Faults, err)
	}
	bucket.objects[name] = good
	if err := read(); err != nil {
		t.Errorf("a segment that was put back is not read: %v", err)
	}
	if s.LookAtArchives(t.Context()); len(faults()) > 0 {
		t.Errorf("the archive still has the faults %v", faults())
	}
	if c, err := s.VerifyArchive(t.Context(), nil); err != nil || len(c.Faults) > 0 {
		t.Errorf("a segment that was put back has faults %v (%v)", c.Faults, err)
	}
}

// What stands beside a segment for people is compared with it: that it is missing, damaged or of another segment is a fault that names
// it, and it is written anew from what the log knows.
func TestDescriptionOfASegment(t *testing.T) {
	bucket := newMemBucket()
	s := openMem(t, vfs.NewMem(), Options{OpenArchive: bucket.open})
	for i := range 3 {
		mustAppend(t, s, request("", eventstore.Stream("order", fmt.Sprint(i)), eventstore.Any, 3))
		mustArchive(t, s, ArchiveOptions{})
	}
	segments := s.Archived()
	name, other := segments[0].Name+".json", segments[1].Name+".json"
	good := bucket.objects[name]
	for what, tt := range map[string]struct {
		body []byte
		says []string
	}{
		"missing":             {nil, []string{"is missing"}},
		"damaged":             {good[:len(good)/2], []string{"cannot be read"}},
		"of another segment":  {bucket.objects[other], []string{"first_lsn is 4, should be 1", "sha256 is " + segments[1].SHA256}},
		"of another log":      {bytes.Replace(good, []byte(`"local"`), []byte(`"mars"`), 1), []string{"site is mars, should be local"}},
		"something else":      {[]byte("[]"), []string{"cannot be read"}},
		"a fact that is gone": {bytes.Replace(good, []byte("chain_after"), []byte("chain_rot"), 1), []string{"chain_after is <nil>"}},
	} {
		delete(bucket.objects, name)
		if tt.body != nil {
			bucket.objects[name] = tt.body
		}
		c, err := s.VerifyArchive(t.Context(), nil)
		if err != nil || len(c.Faults) != 1 || len(c.Undescribed) != 1 || !strings.Contains(c.Faults[0], name) {
			t.Errorf("%s: faults %v, %v; want one that names it", what, c.Faults, err)
			continue
		}
		for _, part := range tt.says {
			if !strings.Contains(c.Faults[0], part) {
				t.Errorf("%s: %s; want it to say %q", what, c.Faults[0], part)
			}
		}
		segment := c.Undescribed[0]
		if err := s.DescribeArchived(t.Context(), &segment); err != nil {
			t.Error(err)
		}
		if c, err := s.VerifyArchive(t.Context(), nil); err != nil || len(c.Faults)+len(c.Unused) > 0 {
			t.Errorf("%s, and written anew: %v, %v", what, c, err)
		}
	}
}

// An index that is lost while the archive is away or damaged keeps a store from opening, and it is said what to do.
func TestIndexLostAndArchiveAway(t *testing.T) {
	files, bucket := vfs.NewMem(), newMemBucket()
	s := openAt(t, files, "data/store", Options{OpenArchive: bucket.open})
	for i := range 3 {
		mustAppend(t, s, request("", eventstore.Stream("order", fmt.Sprint(i)), eventstore.Any, 3))
	}
	mustArchive(t, s, ArchiveOptions{})
	name := s.Archived()[0].Name
	if err := errors.Join(s.Close(), files.RemoveAll("data/store/index")); err != nil {
		t.Fatal(err)
	}
	refused := func(want error, hints ...string) {
		t.Helper()
		_, err := Open("data/store", &Options{FS: files, Logger: quietLog, OpenArchive: bucket.open})
		if !errors.Is(err, want) {
			t.Fatalf("opened without index and archive: %v", err)
		}
		for _, hint := range append(hints, name, testBucket, "tributary restore", "start again") {
			if !strings.Contains(err.Error(), hint) {
				t.Errorf("%q is not in the error %v", hint, err)
			}
		}
	}
	bucket.before = func(string, string) error { return errors.New("away") }
	refused(eventstore.ErrArchiveUnavailable, "have the archive reachable")
	bucket.before = func(string, string) error { return nil }
	bucket.objects[name][0] ^= 1
	refused(eventstore.ErrArchiveDamaged, "put the segment back")
	bucket.objects[name][0] ^= 1
	openAt(t, files, "data/store", Options{OpenArchive: bucket.open})
}

// An archive that is away is named, and no more when it is there again; a place that nothing can be put to is told before
// anything is archived.
func TestArchivesAreLookedAt(t *testing.T) {
	bucket := newMemBucket()
	s := openMem(t, vfs.NewMem(), Options{OpenArchive: bucket.open, TailBytes: 1})
	for i := range 3 {
		mustAppend(t, s, request("", eventstore.Stream("order", fmt.Sprint(i)), eventstore.Any, 3))
	}
	down := errors.New("connection refused")
	if s.LookAtArchives(t.Context()); len(s.ArchivePlaces()) != 0 {
		t.Error("nothing is archived, and there are places where it is")
	}
	for _, fails := range []string{"put", "read", "remove"} {
		bucket.before = func(op, _ string) error {
			if op == fails {
				return down
			}
			return nil
		}
		if err := s.ProbeArchive(t.Context(), testBucket); !errors.Is(err, eventstore.ErrArchiveUnavailable) {
			t.Errorf("a place where %s fails: %v", fails, err)
		}
	}
	bucket.before = func(string, string) error { return nil }
	if err := s.ProbeArchive(t.Context(), testBucket); err != nil || len(bucket.objects) > 0 {
		t.Errorf("probed, and left %d objects: %v", len(bucket.objects), err)
	}
	mustArchive(t, s, ArchiveOptions{})
	bucket.before = func(string, string) error { return down }
	s.LookAtArchives(t.Context())
	if f := s.ArchivePlaces(); len(f) != 1 || f[0].Location != testBucket || len(f[0].Faults) != 1 || !errors.Is(f[0].Faults[0], eventstore.ErrArchiveUnavailable) {
		t.Errorf("an archive that is away: %+v", f)
	}
	if err := s.ProbeArchive(t.Context(), testBucket); !errors.Is(err, eventstore.ErrArchiveUnavailable) {
		t.Errorf("a place that is away: %v", err)
	}
	bucket.before = func(string, string) error { return nil }
	if s.LookAtArchives(t.Context()); len(s.ArchivePlaces()[0].Faults) > 0 {
		t.Errorf("an archive that is there again: %v", s.ArchivePlaces()[0].Faults)
	}
}

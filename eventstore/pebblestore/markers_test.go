package pebblestore

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A marker that a power loss leaves names a file that it leaves too, in whatever order the entries of the folder come to the disk. Shows S4.
func TestMarkersComeLast(t *testing.T) {
	disk := vfs.NewCrashableMem()
	if err := disk.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syncFolder(disk, ""); err != nil {
		t.Fatal(err)
	}
	files := markersLast{disk}
	for _, name := range []string{"MANIFEST-000002", "marker.manifest.000001.MANIFEST-000002"} { // as Pebble does
		f, err := files.Create(files.PathJoin("db", name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	marked := 0
	for seed := range uint64(100) {
		image := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 0))})
		if !exists(image, "db/marker.manifest.000001.MANIFEST-000002") {
			continue
		}
		marked++
		if !exists(image, "db/MANIFEST-000002") {
			t.Fatalf("seed %d: the marker is there, and not the file that it names", seed)
		}
	}
	if marked == 0 {
		t.Error("no power loss has left the marker: the test shows nothing")
	}
}

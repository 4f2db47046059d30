package pebblestore

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markersLast is a file system on which a marker is made only when all that was made in its folder before is durable.
//
// Pebble makes a new MANIFEST, then the marker that names it, and syncs the folder once, after both. A power loss in
// between may leave the marker's entry and not the MANIFEST's, on file systems that do not keep the order of entries:
// a database that names a file it does not have, and cannot be opened any more.
type markersLast struct{ vfs.FS }

// Create implements vfs.FS.
func (f markersLast) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), "marker.") {
		if err := syncFolder(f.FS, f.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return f.FS.Create(name, category)
}

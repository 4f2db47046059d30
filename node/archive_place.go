package node

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// archivePlace returns how a place for archived events is recorded. It is refused if it is in one of the node's own folders,
// through a link too: what is derived there is removed and made anew, and an archive would go with it.
func archivePlace(given string, own ...string) (string, error) {
	location, err := archive.Location(given)
	if err != nil {
		return "", err
	}
	if _, err := openBucket(location); err != nil {
		return "", err
	}
	if strings.Contains(location, "://") {
		return location, nil
	}
	if info, err := os.Stat(location); err == nil && !info.IsDir() {
		return "", fmt.Errorf("%w: archive at %s: it is a file; name a folder", eventstore.ErrInvalid, location)
	}
	if err := outside(location, own...); err != nil {
		return "", fmt.Errorf("archive at %s: %w", location, err)
	}
	return location, nil
}

// outside refuses a place in one of the node's own folders; one that has no name is none.
func outside(place string, own ...string) error {
	for _, folder := range own {
		if folder == "" {
			continue
		}
		inside, err := within(place, folder)
		if err != nil {
			return err
		}
		if inside {
			return fmt.Errorf("%w: it is in %s, where what is derived is removed and made anew; name a folder elsewhere, best on another disk",
				eventstore.ErrInvalid, folder)
		}
	}
	return nil
}

// within reports whether a path is a folder or in it, links resolved.
func within(path, folder string) (bool, error) {
	path, err := resolved(path)
	if err != nil {
		return false, err
	}
	if folder, err = resolved(folder); err != nil {
		return false, err
	}
	relative, err := filepath.Rel(folder, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator)), nil
}

// resolved returns an absolute path without links; what of it is not there yet has none.
func resolved(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	for there, rest := path, ""; ; there, rest = filepath.Dir(there), filepath.Join(filepath.Base(there), rest) {
		if found, err := filepath.EvalSymlinks(there); err == nil {
			return filepath.Join(found, rest), nil
		}
		if there == filepath.Dir(there) {
			return path, nil
		}
	}
}

// ago returns the moment so many seconds ago.
func ago(seconds int64) (time.Time, error) {
	if seconds < 0 || seconds > math.MaxInt64/int64(time.Second) {
		return time.Time{}, fmt.Errorf("%w: older_than_seconds is %d; it is a number of seconds from 0 to %d", eventstore.ErrInvalid, seconds, math.MaxInt64/int64(time.Second))
	}
	return time.Now().Add(-time.Duration(seconds) * time.Second), nil
}

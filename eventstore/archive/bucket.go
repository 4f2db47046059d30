package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Bucket holds objects under names, which have slashes in them. It is safe for concurrent use.
type Bucket interface {
	// Put makes an object, whole and durable when it returns, in place of one of that name.
	Put(ctx context.Context, name string, body []byte) error
	// ReadAt fills p with an object's bytes from an offset on. ErrNoObject when there is none of that name,
	// io.ErrUnexpectedEOF when it has fewer.
	ReadAt(ctx context.Context, name string, p []byte, offset int64) error
	// List yields the objects whose names begin with a prefix, in the order of their names.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Remove removes an object, if there is one of that name.
	Remove(ctx context.Context, name string) error
}

// Object is what a listing says of one.
type Object struct {
	Name  string
	Bytes int64
}

// ErrNoObject: a bucket has no object of that name.
var ErrNoObject = errors.New("no such object")

// Opener opens the bucket at a location.
type Opener func(location string) (Bucket, error)

// OpenFolder opens a location that is a folder; any other is eventstore.ErrInvalid. It is the Opener of programs that know of no others.
func OpenFolder(location string) (Bucket, error) {
	if scheme, _, found := strings.Cut(location, "://"); found {
		return nil, fmt.Errorf("%w: archive at %s: there is no kind of place %s", eventstore.ErrInvalid, location, scheme)
	}
	return NewFolder(location), nil
}

// Location returns how a place is recorded: a folder by its absolute path, a bucket by its URL without what is secret.
func Location(given string) (string, error) {
	scheme, _, found := strings.Cut(given, "://")
	switch {
	case given == "":
		return "", fmt.Errorf("%w: no place for the archive is named", eventstore.ErrInvalid)
	case !found:
		path, err := filepath.Abs(given)
		if err != nil {
			return "", fmt.Errorf("%w: archive at %s: %w", eventstore.ErrInvalid, given, err)
		}
		return path, nil
	case scheme == "file":
		u, err := url.Parse(given)
		if err != nil || u.Host != "" || !filepath.IsAbs(u.Path) {
			return "", fmt.Errorf("%w: archive at %s: write a folder as its path", eventstore.ErrInvalid, given)
		}
		return filepath.Clean(u.Path), nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("%w: archive at %s: write it as %s://BUCKET/PREFIX; credentials come from the environment", eventstore.ErrInvalid, given, scheme)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u.String(), nil
}

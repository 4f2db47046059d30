package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Peer is a store that is running, seen through its client.
type Peer interface {
	// Append adds events to a stream and returns when they are durable. at says where the stream stands; the peer refuses
	// when it stands elsewhere. It returns where the stream stands now.
	Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error)
	// Load reads a whole stream and returns how many events it had.
	Load(ctx context.Context, stream string) (int, error)
	// ReadAll reads everything that was appended, in one order, and returns how many events that was.
	ReadAll(ctx context.Context) (int, error)
	// Close stops the server.
	Close() error
}

// Place is where a stream stands: its version, and the place of its last event in the log of peers that need that.
type Place struct{ Version, Position uint64 }

// Kind is a peer that can be started.
type Kind struct {
	Name string
	// Check says how the expected version is checked.
	Check string
	// Start starts the server on an empty folder. Errors match errMissing when the machine lacks it.
	Start func(ctx context.Context, dir string) (Peer, string, error)
	// Lacks names works that it cannot do, with the reason.
	Lacks map[string]string
}

// errMissing: the machine does not have what the peer needs.
var errMissing = errors.New("missing here")

func missing(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMissing, fmt.Sprintf(format, args...))
}

// kinds are the peers in the order of the table.
var kinds = []Kind{tributaryKind, tributaryClientKind, umadbKind, postgresKind, natsKind, etcdKind, redisKind}

// chosen returns the kinds that a list of names means; an empty list means all.
func chosen(names string) ([]Kind, error) {
	if names == "" {
		return kinds, nil
	}
	var out []Kind
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("peer %q is unknown", name)
		}
		out = append(out, kinds[i])
	}
	return out, nil
}

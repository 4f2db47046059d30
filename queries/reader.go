package queries

import (
	"context"
	"iter"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

var (
	// ErrNotFound: the read model has no such thing.
	ErrNotFound = projections.ErrNotFound
	// ErrRebuilding: the read model is being rebuilt and cannot answer yet; try again.
	ErrRebuilding = projections.ErrRebuilding
	// ErrUnavailable: the server that holds the read model cannot be reached; try again.
	ErrUnavailable = projections.ErrUnavailable
)

// KeyReader reads a key-value model that projections.Keys wrote, by the projection's own keys. Methods return ErrNotFound
// for absent keys and fields, ErrRebuilding and ErrUnavailable.
type KeyReader interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Hash(ctx context.Context, key string) (map[string]string, error)
	HashField(ctx context.Context, key, field string) (string, error)
	// SortedPage returns up to limit members from the highest score down, after skipping offset, and how many there are.
	// Members of equal score come in descending byte order. An absent key has no members; it is no error.
	SortedPage(ctx context.Context, key string, offset, limit int) (members []string, total int, err error)
	// Hashes returns the named fields of several hashes in the order of their keys, in one round trip. A field that a hash
	// has not is left out; what is read of an absent key is empty.
	Hashes(ctx context.Context, keys []string, fields ...string) ([]map[string]string, error)
}

// RowReader reads the tables that projections.Rows wrote.
type RowReader interface {
	// Query runs one read-only statement with its parameters bound by the driver and yields rows as name → value. Within
	// the text, {db} stands for the database of the projection.
	Query(ctx context.Context, sql string, args ...any) iter.Seq2[map[string]any, error]
}

// Progress says how far projections are. projections.Runner provides it.
type Progress interface {
	// Position returns how far the projection has come; ErrRebuilding, ErrUnavailable.
	Position(ctx context.Context) (eventstore.Position, error)
	// Await returns when the projection has come to at least p, or with ctx's error.
	Await(ctx context.Context, p eventstore.Position) error
}

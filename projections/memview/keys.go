package memview

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/keywrites"
)

// Keys is a key-value model in memory: a projections.Generations and projections.Parking, with the methods of
// queries.KeyReader. It is safe for concurrent use.
type Keys struct {
	projection projections.Projection[projections.Keys]

	mu       sync.Mutex // guards what follows
	live     *keyModel  // nil: there is none
	building *keyModel
	skipped  map[eventstore.Position]bool
}

// keyModel is one generation of a model, guarded by its Keys' mutex.
type keyModel struct {
	cursor projections.Cursor
	values map[string]*projections.Value
	lot    parkingLot
}

// NewKeys returns an empty sink for the projection, without a cursor. Events at the skipped positions are left out.
func NewKeys(p projections.Projection[projections.Keys], skipped ...eventstore.Position) *Keys {
	k := &Keys{projection: p, skipped: make(map[eventstore.Position]bool)}
	for _, at := range skipped {
		k.skipped[at] = true
	}
	return k
}

func newKeyModel() *keyModel {
	return &keyModel{values: make(map[string]*projections.Value)}
}

// Name, Types and Version are those of the projection.
func (k *Keys) Name() string { return k.projection.Name }

// Types is part of projections.Sink.
func (k *Keys) Types() []string { return k.projection.Types }

// Version is projections.Versioned.
func (k *Keys) Version() int { return k.projection.Version }

// Touches is projections.Correcting.
func (k *Keys) Touches(e *eventstore.Recorded) bool { return k.projection.Touches(e) }

// Open is part of projections.Sink.
func (k *Keys) Open(ctx context.Context) (projections.Cursor, error) { return k.Cursor(ctx) }

// Close is part of projections.Sink; it does nothing.
func (k *Keys) Close() error { return nil }

// Cursor is projections.CursorReader.
func (k *Keys) Cursor(context.Context) (projections.Cursor, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live == nil {
		return projections.Cursor{}, projections.ErrNoCursor
	}
	return k.live.cursor, nil
}

// Reset is part of projections.Sink.
func (k *Keys) Reset(context.Context) error {
	k.Lose()
	return nil
}

// Lose forgets the model and its cursor, as a server does that is emptied.
func (k *Keys) Lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live, k.building = nil, nil
}

// Commit is part of projections.Sink.
func (k *Keys) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.live
	if m == nil {
		if from != (projections.Cursor{}) {
			return nil, projections.ErrNoCursor
		}
		m = newKeyModel()
	}
	parked, err := k.commit(ctx, m, from, to, events)
	if err != nil {
		return nil, err
	}
	k.live = m
	return parked, nil
}

// commit applies events to a model. REQUIRES: k.mu is held.
func (k *Keys) commit(ctx context.Context, m *keyModel, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	if m.cursor != from {
		return nil, fmt.Errorf("%w: at %s, the commit is from %s", projections.ErrCursorMoved, m.cursor, from)
	}
	var rec keywrites.Recorder
	lot := projections.Lot{Waiting: m.lot.waiting(), Skipped: k.skipped}
	parked, err := projections.Fold[projections.Keys](ctx, &k.projection, &rec, &rec, &lot, events)
	if err != nil {
		return nil, err
	}
	if err := m.write(&rec); err != nil {
		return nil, err
	}
	m.lot.add(parked)
	m.cursor = to
	return projections.PlainParked(parked), nil
}

// write does what was recorded, all or nothing.
func (m *keyModel) write(rec *keywrites.Recorder) error {
	keys, err := rec.Reduce()
	if err != nil {
		return err
	}
	for _, w := range keys {
		if err := m.check(w); err != nil {
			return fmt.Errorf("key %q: %w", w.Name, err)
		}
	}
	for _, w := range keys {
		m.apply(w)
	}
	return nil
}

// check says whether the key can take the writes.
func (m *keyModel) check(w *keywrites.Key) error {
	v := m.values[w.Name]
	if v == nil || w.Base != keywrites.Keep {
		return nil
	}
	if len(w.Fields) > 0 && v.Kind != projections.HashValue || len(w.Members) > 0 && v.Kind != projections.SortedValue {
		return fmt.Errorf("%w: it holds %s", projections.ErrBadWrite, v.Kind)
	}
	for _, f := range w.Fields {
		if old, ok := v.Hash[f.Name]; ok && f.Op == keywrites.FieldAdd {
			if _, err := keywrites.AddTo(old, f.Delta); err != nil {
				return fmt.Errorf("field %q: %w", f.Name, err)
			}
		}
	}
	return nil
}

// apply does the writes to one key. REQUIRES: check allowed them.
func (m *keyModel) apply(w *keywrites.Key) {
	switch w.Base {
	case keywrites.Replace:
		m.values[w.Name] = &projections.Value{Kind: projections.StringValue, Bytes: w.Value}
		return
	case keywrites.Drop:
		delete(m.values, w.Name)
	}
	v := m.values[w.Name]
	if v == nil {
		v = &projections.Value{}
	}
	for _, f := range w.Fields {
		v.Kind = projections.HashValue
		if v.Hash == nil {
			v.Hash = make(map[string]string)
		}
		switch f.Op {
		case keywrites.FieldSet:
			v.Hash[f.Name] = f.Value
		case keywrites.FieldDelete:
			delete(v.Hash, f.Name)
		case keywrites.FieldAdd:
			old, ok := v.Hash[f.Name]
			if !ok {
				old = "0"
			}
			v.Hash[f.Name], _ = keywrites.AddTo(old, f.Delta)
		}
	}
	for _, s := range w.Members {
		v.Kind = projections.SortedValue
		if v.Sorted == nil {
			v.Sorted = make(map[string]float64)
		}
		if s.Remove {
			delete(v.Sorted, s.Name)
		} else {
			v.Sorted[s.Name] = s.Score
		}
	}
	if len(v.Hash) == 0 && len(v.Sorted) == 0 {
		delete(m.values, w.Name)
		return
	}
	m.values[w.Name] = v
}

// Digest is part of projections.Sink.
func (k *Keys) Digest(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live == nil {
		return "", projections.ErrNoCursor
	}
	return k.live.digest(), nil
}

func (m *keyModel) digest() string {
	var d projections.Digest
	for key, v := range m.values {
		d.Value(key, *v)
	}
	return d.Sum()
}

// Len returns the number of keys.
func (k *Keys) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live == nil {
		return 0
	}
	return len(k.live.values)
}

// Keys returns all keys, in byte order.
func (k *Keys) Keys() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(k.live.values))
}

// Value returns what a key holds; NoValue when it is absent. The caller must not change it.
func (k *Keys) Value(key string) projections.Value {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value(key)
}

// value returns a copy that later commits leave alone. REQUIRES: k.mu is held.
func (k *Keys) value(key string) projections.Value {
	if k.live == nil || k.live.values[key] == nil {
		return projections.Value{}
	}
	v := *k.live.values[key]
	v.Hash, v.Sorted = maps.Clone(v.Hash), maps.Clone(v.Sorted)
	return v
}

// All yields each key with what it holds, in byte order of the keys.
func (k *Keys) All() iter.Seq2[string, projections.Value] {
	return func(yield func(string, projections.Value) bool) {
		for _, key := range k.Keys() {
			if v := k.Value(key); v.Kind != projections.NoValue && !yield(key, v) {
				return
			}
		}
	}
}

// read returns what a key holds for a reader that wants one kind.
func (k *Keys) read(key string, want projections.Kind) (projections.Value, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live == nil {
		return projections.Value{}, projections.ErrRebuilding
	}
	v := k.value(key)
	if v.Kind != projections.NoValue && v.Kind != want {
		return projections.Value{}, fmt.Errorf("key %q holds %s, not %s", key, v.Kind, want)
	}
	return v, nil
}

// Get is part of queries.KeyReader.
func (k *Keys) Get(_ context.Context, key string) ([]byte, error) {
	v, err := k.read(key, projections.StringValue)
	if err == nil && v.Kind == projections.NoValue {
		err = fmt.Errorf("key %q: %w", key, projections.ErrNotFound)
	}
	return v.Bytes, err
}

// Hash is part of queries.KeyReader.
func (k *Keys) Hash(_ context.Context, key string) (map[string]string, error) {
	v, err := k.read(key, projections.HashValue)
	if err == nil && v.Kind == projections.NoValue {
		err = fmt.Errorf("key %q: %w", key, projections.ErrNotFound)
	}
	return v.Hash, err
}

// Hashes is part of queries.KeyReader.
func (k *Keys) Hashes(_ context.Context, keys []string, fields ...string) ([]map[string]string, error) {
	out := make([]map[string]string, len(keys))
	for i, key := range keys {
		v, err := k.read(key, projections.HashValue)
		if err != nil {
			return nil, err
		}
		out[i] = make(map[string]string, len(fields))
		for _, field := range fields {
			if value, ok := v.Hash[field]; ok {
				out[i][field] = value
			}
		}
	}
	return out, nil
}

// HashField is part of queries.KeyReader.
func (k *Keys) HashField(_ context.Context, key, field string) (string, error) {
	v, err := k.read(key, projections.HashValue)
	if err != nil {
		return "", err
	}
	value, ok := v.Hash[field]
	if !ok {
		return "", fmt.Errorf("field %q of key %q: %w", field, key, projections.ErrNotFound)
	}
	return value, nil
}

// SortedPage is part of queries.KeyReader.
func (k *Keys) SortedPage(_ context.Context, key string, offset, limit int) (members []string, total int, err error) {
	v, err := k.read(key, projections.SortedValue)
	if err != nil {
		return nil, 0, err
	}
	members = slices.SortedFunc(maps.Keys(v.Sorted), func(a, b string) int {
		switch x, y := v.Sorted[a], v.Sorted[b]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(b, a)
	})
	total = len(members)
	offset = min(max(offset, 0), total)
	return members[offset:min(offset+max(limit, 0), total)], total, nil
}

// Equal reports whether two values are the same in kind and content.
func Equal(a, b projections.Value) bool {
	return a.Kind == b.Kind && bytes.Equal(a.Bytes, b.Bytes) && maps.Equal(a.Hash, b.Hash) && maps.Equal(a.Sorted, b.Sorted)
}

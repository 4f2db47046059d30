package redisview

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/projections"
)

// globEscaper makes a pattern of SCAN match a text as it stands.
var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// digest reads a whole model, by the key of its cursor. It is the digest that memview gives of the same content.
func (v *View) digest(ctx context.Context, cursor string) (string, error) {
	var d projections.Digest
	err := v.still(ctx, cursor, func(generation int64) error {
		d = projections.Digest{}
		return v.content(ctx, generation, func(key string, value projections.Value) { d.Value(key, value) })
	})
	if err != nil {
		return "", err
	}
	return d.Sum(), nil
}

// still reads a model with look and makes sure that nobody has written to it meanwhile: else ErrCursorMoved.
func (v *View) still(ctx context.Context, cursor string, look func(generation int64) error) error {
	before, err := v.head(ctx, cursor)
	if err != nil {
		return err
	}
	if err := look(before.generation); err != nil {
		return err
	}
	after, err := v.head(ctx, cursor)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("%w: from %s to %s while the model was read", projections.ErrCursorMoved, before.at, after.at)
	}
	return nil
}

// Each calls visit for every key of the live model with what it holds, in no order. ErrCursorMoved when the model was
// written to meanwhile.
func (v *View) Each(ctx context.Context, visit func(key string, value projections.Value)) error {
	return v.still(ctx, v.names.cursor, func(generation int64) error { return v.content(ctx, generation, visit) })
}

// content calls visit once for every key of a generation.
func (v *View) content(ctx context.Context, generation int64, visit func(key string, value projections.Value)) error {
	model := v.names.model(generation)
	seed := maphash.MakeSeed()
	seen := make(map[uint64]struct{}) // SCAN may give a key twice
	err := v.scan(ctx, generation, func(keys []string) error {
		fresh := keys[:0]
		for _, key := range keys {
			h := maphash.String(seed, key)
			if _, twice := seen[h]; !twice {
				seen[h] = struct{}{}
				fresh = append(fresh, key)
			}
		}
		values, err := v.values(ctx, fresh)
		if err != nil {
			return err
		}
		for i, key := range fresh {
			if values[i].Kind != projections.NoValue {
				visit(key[len(model):], values[i])
			}
		}
		return nil
	})
	if err != nil {
		return v.client.unavailable("read the model", err)
	}
	return nil
}

// values reads what whole keys hold, in two round trips.
func (v *View) values(ctx context.Context, keys []string) ([]projections.Value, error) {
	types := v.client.reads.Pipeline()
	kinds := make([]*redis.StatusCmd, len(keys))
	for i, key := range keys {
		kinds[i] = types.Type(ctx, key)
	}
	if _, err := types.Exec(ctx); err != nil {
		return nil, err
	}
	pipe := v.client.reads.Pipeline()
	answers := make([]redis.Cmder, len(keys))
	for i, key := range keys {
		switch kinds[i].Val() {
		case "string":
			answers[i] = pipe.Get(ctx, key)
		case "hash":
			answers[i] = pipe.HGetAll(ctx, key)
		case "zset":
			answers[i] = pipe.ZRangeWithScores(ctx, key, 0, -1)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && v.readError(ctx, "read the model", err) != nil {
		return nil, err
	}
	values := make([]projections.Value, len(keys))
	for i := range keys {
		switch cmd := answers[i].(type) {
		case *redis.StringCmd:
			if cmd.Err() == nil {
				values[i] = projections.Value{Kind: projections.StringValue, Bytes: []byte(cmd.Val())}
			}
		case *redis.MapStringStringCmd:
			if len(cmd.Val()) > 0 {
				values[i] = projections.Value{Kind: projections.HashValue, Hash: cmd.Val()}
			}
		case *redis.ZSliceCmd:
			if len(cmd.Val()) > 0 {
				values[i] = projections.Value{Kind: projections.SortedValue, Sorted: scores(cmd.Val())}
			}
		default:
			if kind := kinds[i].Val(); kind != "none" { // a type that no projection writes: somebody else did
				values[i] = projections.Value{Kind: projections.StrangeValue, Bytes: []byte(kind)}
			}
		}
	}
	return values, nil
}

func scores(zs []redis.Z) map[string]float64 {
	out := make(map[string]float64, len(zs))
	for _, z := range zs {
		out[z.Member.(string)] = z.Score
	}
	return out
}

// Model is what a model is compared with; memview.Keys is one.
type Model interface {
	// Value returns what a key holds.
	Value(key string) projections.Value
	// Keys returns all keys.
	Keys() []string
}

// Diff compares the live model with one that was folded from the log up to the same position, and names every key that
// differs, with what it holds and what it should, in byte order of the keys. ErrCursorMoved when the model was written to
// meanwhile.
func (v *View) Diff(ctx context.Context, want Model) ([]string, error) {
	var faults []string
	err := v.still(ctx, v.names.cursor, func(generation int64) error {
		faults = nil
		have := make(map[string]bool)
		model := v.names.model(generation)
		err := v.content(ctx, generation, func(key string, value projections.Value) {
			have[key] = true
			if diff := difference(value, want.Value(key)); diff != "" {
				faults = append(faults, fmt.Sprintf("redis key %q: %s", model+key, diff))
			}
		})
		for _, key := range want.Keys() {
			if !have[key] {
				faults = append(faults, fmt.Sprintf("redis key %q: is missing, should be %s", model+key, want.Value(key).Kind))
			}
		}
		return err
	})
	slices.Sort(faults)
	return faults, err
}

// difference says how two values differ; empty when they do not.
func difference(have, want projections.Value) string {
	if have.Kind != want.Kind {
		if want.Kind == projections.NoValue {
			return "is " + have.Kind.String() + ", should not be there"
		}
		return "is " + have.Kind.String() + ", should be " + want.Kind.String()
	}
	switch have.Kind {
	case projections.StringValue:
		if !bytes.Equal(have.Bytes, want.Bytes) {
			return fmt.Sprintf("is %s, should be %s", short(string(have.Bytes)), short(string(want.Bytes)))
		}
	case projections.HashValue:
		return elements("field", have.Hash, want.Hash)
	case projections.SortedValue:
		return elements("member", have.Sorted, want.Sorted)
	}
	return ""
}

// elements says which fields or members differ.
func elements[E comparable](what string, have, want map[string]E) string {
	var faults []string
	for name, value := range have {
		switch should, ok := want[name]; {
		case !ok:
			faults = append(faults, fmt.Sprintf("%s %q should not be there", what, name))
		case value != should:
			faults = append(faults, fmt.Sprintf("%s %q is %s, should be %s", what, name, short(value), short(should)))
		}
	}
	for name := range want {
		if _, ok := have[name]; !ok {
			faults = append(faults, fmt.Sprintf("%s %q is missing", what, name))
		}
	}
	slices.Sort(faults)
	if most := 5; len(faults) > most {
		faults = append(faults[:most], fmt.Sprintf("and %d more", len(faults)-most))
	}
	return strings.Join(faults, "; ")
}

// short quotes a value, cut to what a line can bear.
func short(value any) string {
	s := fmt.Sprint(value)
	if most := 80; len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

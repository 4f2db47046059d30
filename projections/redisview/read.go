package redisview

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/projections"
)

// read asks about keys of the live generation. ask adds the commands, given what the keys begin with; after they are
// answered the generation is looked at in the same round trip, so that what was read of a model that is gone, or not
// live, is never taken for an answer.
func (v *View) read(ctx context.Context, what string, ask func(pipe redis.Pipeliner, model string)) error {
	for range attempts {
		generation := v.readable.Load()
		pipe := v.client.reads.Pipeline()
		if generation != 0 {
			ask(pipe, v.names.model(generation))
		}
		live := pipe.HMGet(ctx, v.names.cursor, headFields...)
		_, err := pipe.Exec(ctx)
		if err := v.readError(ctx, what, err); err != nil {
			return err
		}
		h, err := v.parseHead(live)
		if errors.Is(err, projections.ErrNoCursor) {
			return fmt.Errorf("%s of %s: %w", what, v.Name(), projections.ErrRebuilding)
		}
		if err != nil {
			return err
		}
		if h.generation == generation {
			return nil
		}
		v.readable.Store(h.generation)
	}
	return fmt.Errorf("%s of %s: %w: the live generation changes all the time", what, v.Name(), projections.ErrRebuilding)
}

// readError makes of what a pipeline returned the error to give to a reader. Absent keys are none.
func (v *View) readError(ctx context.Context, what string, err error) error {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return fmt.Errorf("%s of %s: %w", what, v.Name(), err)
	}
	return v.client.unavailable(what, err)
}

// notFound returns what a read of one thing found, with ErrNotFound when it is absent.
func notFound[T any](what string, value T, err error) (T, error) {
	if errors.Is(err, redis.Nil) {
		err = fmt.Errorf("%s: %w", what, projections.ErrNotFound)
	}
	return value, err
}

// Get is part of queries.KeyReader.
func (v *View) Get(ctx context.Context, key string) ([]byte, error) {
	var cmd *redis.StringCmd
	if err := v.read(ctx, "get "+key, func(pipe redis.Pipeliner, model string) { cmd = pipe.Get(ctx, model+key) }); err != nil {
		return nil, err
	}
	value, err := cmd.Bytes()
	return notFound("key "+key, value, err)
}

// Hash is part of queries.KeyReader.
func (v *View) Hash(ctx context.Context, key string) (map[string]string, error) {
	var cmd *redis.MapStringStringCmd
	if err := v.read(ctx, "hash "+key, func(pipe redis.Pipeliner, model string) { cmd = pipe.HGetAll(ctx, model+key) }); err != nil {
		return nil, err
	}
	fields, err := cmd.Result()
	if err == nil && len(fields) == 0 {
		err = redis.Nil
	}
	return notFound("key "+key, fields, err)
}

// Hashes is part of queries.KeyReader.
func (v *View) Hashes(ctx context.Context, keys []string, fields ...string) ([]map[string]string, error) {
	out := make([]map[string]string, len(keys))
	if len(keys) == 0 || len(fields) == 0 {
		return out, nil
	}
	cmds := make([]*redis.SliceCmd, len(keys))
	err := v.read(ctx, "hashes", func(pipe redis.Pipeliner, model string) {
		for i, key := range keys {
			cmds[i] = pipe.HMGet(ctx, model+key, fields...)
		}
	})
	if err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		values, err := cmd.Result()
		if err != nil {
			return nil, v.readError(ctx, "hash "+keys[i], err)
		}
		out[i] = make(map[string]string, len(fields))
		for n, value := range values {
			if text, ok := value.(string); ok {
				out[i][fields[n]] = text
			}
		}
	}
	return out, nil
}

// HashField is part of queries.KeyReader.
func (v *View) HashField(ctx context.Context, key, field string) (string, error) {
	var cmd *redis.StringCmd
	err := v.read(ctx, "hash "+key, func(pipe redis.Pipeliner, model string) { cmd = pipe.HGet(ctx, model+key, field) })
	if err != nil {
		return "", err
	}
	value, err := cmd.Result()
	return notFound("field "+field+" of key "+key, value, err)
}

// SortedPage is part of queries.KeyReader.
func (v *View) SortedPage(ctx context.Context, key string, offset, limit int) (members []string, total int, err error) {
	var page *redis.StringSliceCmd
	var size *redis.IntCmd
	offset, limit = max(offset, 0), max(limit, 0)
	err = v.read(ctx, "sorted set "+key, func(pipe redis.Pipeliner, model string) {
		size = pipe.ZCard(ctx, model+key)
		page = nil
		if limit > 0 {
			page = pipe.ZRevRange(ctx, model+key, int64(offset), int64(offset)+int64(limit)-1)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	if page != nil {
		members = page.Val()
	}
	return members, int(size.Val()), nil
}

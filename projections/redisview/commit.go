package redisview

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/keywrites"
)

// writer says which model is written to: the one whose cursor is at the key, and of the generation when that is not 0.
type writer struct {
	cursor     string
	generation int64
}

// errChanged: what a transaction rested on was changed before it came to it; nothing was done.
var errChanged = errors.New("cursor was touched")

// unwatchTimeout bounds the goodbye of a transaction that was not committed.
const unwatchTimeout = time.Second

// attempts bounds how often a transaction is tried whose cursor was touched.
const attempts = 5

// commit applies events to a model and moves its cursor, in one transaction.
func (v *View) commit(ctx context.Context, w writer, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for range attempts {
		parked, err := v.tryCommit(ctx, w, from, to, events)
		if !errors.Is(err, errChanged) {
			return parked, err
		}
	}
	return nil, fmt.Errorf("%w: it was touched %d times", projections.ErrCursorMoved, attempts)
}

func (v *View) tryCommit(ctx context.Context, w writer, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	tx, h, err := v.watch(ctx, w.cursor)
	fresh := false
	if errors.Is(err, projections.ErrNoCursor) && from == (projections.Cursor{}) && w.generation == 0 && tx.absent {
		fresh = true
		h = head{version: v.projection.Version, edits: "0"}
		h.generation, err = v.newGeneration(ctx)
	}
	defer tx.end()
	if err != nil {
		return nil, err
	}
	if w.generation != 0 && h.generation != w.generation {
		return nil, fmt.Errorf("%w: generation %d is being filled, no longer %d", projections.ErrCursorMoved, h.generation, w.generation)
	}
	if h.at != from {
		return nil, fmt.Errorf("%w: at %s, the commit is from %s", projections.ErrCursorMoved, h.at, from)
	}
	l, err := v.lot(ctx, tx, &h)
	if err != nil {
		return nil, err
	}
	v.recorder.Clear()
	// What is parked now counts when the transaction has succeeded.
	batch := projections.Lot{Waiting: cloned(l.Waiting), Skipped: l.Skipped}
	parked, err := projections.Fold[projections.Keys](ctx, &v.projection, &v.recorder, &v.recorder, &batch, events)
	if err != nil {
		return nil, err
	}
	keys, err := v.recorder.Reduce()
	if err != nil {
		return nil, err
	}
	h.at = to
	err = tx.commit(ctx, &h, fresh, keys, func(pipe redis.Pipeliner) error {
		return v.park(ctx, pipe, h.generation, parked)
	})
	if err != nil {
		return nil, v.damage(ctx, w, &h, err)
	}
	l.Waiting = batch.Waiting
	return projections.PlainParked(parked), nil
}

// cloned copies the waiting streams only where there are some; mostly there are none.
func cloned(m map[eventstore.StreamID]bool) map[eventstore.StreamID]bool {
	if len(m) == 0 {
		return nil
	}
	out := make(map[eventstore.StreamID]bool, len(m))
	for k := range m {
		out[k] = true
	}
	return out
}

// damagedError: a transaction went through, but the server refused one of its writes, and Redis does not take the
// others back.
type damagedError struct{ cause error }

func (e *damagedError) Error() string { return "redis refused a write: " + e.cause.Error() }
func (e *damagedError) Unwrap() error { return e.cause }

// damage deals with a model of which a write was refused, because a key holds another kind of value. It cannot be trusted
// any more. In the live model somebody may have changed the key by hand: it is given up, to be filled again. In a
// generation that we alone have filled it is the projection's fault.
func (v *View) damage(ctx context.Context, w writer, h *head, err error) error {
	var damaged *damagedError
	if !errors.As(err, &damaged) {
		return err
	}
	if w.generation != 0 {
		return fmt.Errorf("%w: %w", projections.ErrBadWrite, err)
	}
	if err := v.drop(ctx, w.cursor); err != nil {
		return err
	}
	return fmt.Errorf("%w: generation %d is given up: %w", projections.ErrNoCursor, h.generation, err)
}

// transaction is one optimistic transaction over a cursor, on a connection of its own.
type transaction struct {
	view    *View
	cursor  string
	conn    *redis.Conn
	watched bool
	// absent: nothing at all is at the cursor's key. skips is how many events are skipped.
	absent bool
	skips  int64
}

// watch begins a transaction and returns what the cursor says.
func (v *View) watch(ctx context.Context, cursor string) (*transaction, head, error) {
	tx := &transaction{view: v, cursor: cursor, conn: v.client.writes.Conn()}
	pipe := tx.conn.Pipeline()
	pipe.Do(ctx, "watch", cursor)
	read := pipe.HMGet(ctx, cursor, headFields...)
	skips := pipe.HLen(ctx, v.names.skipped)
	if _, err := pipe.Exec(ctx); err != nil {
		return tx, head{}, v.client.unavailable("read cursor", err)
	}
	tx.watched, tx.absent, tx.skips = true, true, skips.Val()
	for _, value := range read.Val() {
		tx.absent = tx.absent && value == nil
	}
	h, err := v.parseHead(read)
	return tx, h, err
}

// end gives the connection back.
func (tx *transaction) end() {
	if tx.watched {
		// Without a deadline of the caller's: a connection must not go back while it watches.
		ctx, cancel := context.WithTimeout(context.Background(), unwatchTimeout)
		defer cancel()
		_ = tx.conn.Do(ctx, "unwatch").Err() // a connection that fails is not used again
	}
	_ = tx.conn.Close()
}

// commit writes keys and whatever more adds, and stores the cursor, if nobody has touched it since watch. Afterwards the
// transaction is over.
func (tx *transaction) commit(ctx context.Context, h *head, fresh bool, keys []*keywrites.Key, more func(redis.Pipeliner) error) error {
	pipe := tx.conn.TxPipeline()
	write(ctx, pipe, tx.view.names.model(h.generation), keys)
	if more != nil {
		if err := more(pipe); err != nil {
			return err
		}
	}
	// Only what changes: should the server be emptied in between without ending our watch, the cursor is not whole, and
	// that counts as none.
	fields := h.fields()
	if !fresh {
		fields = fields[4:]
	}
	pipe.HSet(ctx, tx.cursor, fields...)
	done := pipe.HGet(ctx, tx.cursor, fieldGeneration)
	cmds, err := pipe.Exec(ctx)
	switch {
	case err == nil:
		tx.watched = false
		return nil
	case errors.Is(err, redis.TxFailedErr):
		tx.watched = false
		return errChanged
	case done.Val() == "" && done.Err() != nil && !errors.Is(done.Err(), redis.Nil):
		return tx.view.client.unavailable("commit", refusal(cmds, err))
	}
	tx.watched = false
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && cmd != redis.Cmder(done) {
			return &damagedError{cause: fmt.Errorf("%s %v: %w", cmd.Name(), cmd.Args()[1], err)}
		}
	}
	return fmt.Errorf("%w: the server was emptied during a commit", projections.ErrNoCursor)
}

// refusal returns why a transaction was not carried out: the first command that the server did not even take, where it
// says so, such as for lack of memory.
func refusal(cmds []redis.Cmder, err error) error {
	if strings.HasPrefix(err.Error(), "EXECABORT") {
		for _, cmd := range cmds {
			if cause := cmd.Err(); cause != nil && !strings.HasPrefix(cause.Error(), "EXECABORT") {
				return fmt.Errorf("%s: %w", cmd.Name(), cause)
			}
		}
	}
	return err
}

// write adds the writes to keys of one model.
func write(ctx context.Context, pipe redis.Pipeliner, model string, keys []*keywrites.Key) {
	for _, k := range keys {
		key := model + k.Name
		switch k.Base {
		case keywrites.Replace:
			pipe.Set(ctx, key, k.Value, 0)
			continue
		case keywrites.Drop:
			pipe.Del(ctx, key)
		}
		writeFields(ctx, pipe, key, k.Fields)
		writeMembers(ctx, pipe, key, k.Members)
	}
}

func writeFields(ctx context.Context, pipe redis.Pipeliner, key string, fields []keywrites.Field) {
	var set []any
	var deleted []string
	for i := range fields {
		switch f := &fields[i]; f.Op {
		case keywrites.FieldSet:
			set = append(set, f.Name, f.Value)
		case keywrites.FieldAdd:
			pipe.HIncrBy(ctx, key, f.Name, f.Delta)
		case keywrites.FieldDelete:
			deleted = append(deleted, f.Name)
		}
	}
	if len(set) > 0 {
		pipe.HSet(ctx, key, set...)
	}
	if len(deleted) > 0 {
		pipe.HDel(ctx, key, deleted...)
	}
}

func writeMembers(ctx context.Context, pipe redis.Pipeliner, key string, members []keywrites.Member) {
	var added []redis.Z
	var removed []any
	for i := range members {
		if m := &members[i]; m.Remove {
			removed = append(removed, m.Name)
		} else {
			added = append(added, redis.Z{Member: m.Name, Score: m.Score})
		}
	}
	if len(added) > 0 {
		pipe.ZAdd(ctx, key, added...)
	}
	if len(removed) > 0 {
		pipe.ZRem(ctx, key, removed...)
	}
}

// drop forgets models, by the keys of their cursors, and leaves their keys to sweep.
func (v *View) drop(ctx context.Context, cursors ...string) error {
	v.readable.Store(0)
	for _, cursor := range cursors {
		generation, err := v.client.reads.HGet(ctx, cursor, fieldGeneration).Result()
		if err != nil && !errors.Is(err, redis.Nil) && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return v.client.unavailable("drop a model", err)
		}
		pipe := v.client.reads.TxPipeline()
		if generation != "" {
			pipe.SAdd(ctx, v.names.garbage, generation)
		}
		pipe.Del(ctx, cursor)
		if _, err := pipe.Exec(ctx); err != nil {
			return v.client.unavailable("drop a model", err)
		}
	}
	return nil
}

package redisview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/keywrites"
)

// Options of a View. The zero value is good.
type Options struct {
	// Prefix is what all keys begin with, followed by a colon; empty means "tributary".
	Prefix string
	// Logger takes what an operator should know; nil means slog.Default.
	Logger *slog.Logger
	// Now gives the time, from which the first generation of a projection is numbered; nil means time.Now.
	Now func() time.Time
}

// View is the model of one projection in Redis: a projections.Generations, projections.Parking and
// projections.CursorReader, with the methods of queries.KeyReader. Reads, Parked, Retry and Skip may be called at any
// time and side by side; the methods of projections.Sink are for one runner.
type View struct {
	client     *Client
	projection projections.Projection[projections.Keys]
	names      names
	now        func() time.Time
	logger     *slog.Logger

	// readable is the generation that reads have last found to be live.
	readable atomic.Int64

	mu       sync.Mutex // guards what follows, and makes commits and edits of one process take turns
	recorder keywrites.Recorder
	lots     map[string]*lot // by key of the cursor

	sweeper sweeper
}

// New returns a view of the projection on the client's server. It connects when it is used.
func New(c *Client, p projections.Projection[projections.Keys], o Options) *View {
	v := &View{
		client: c, projection: p, names: newNames(cmp.Or(o.Prefix, "tributary"), p.Name), now: o.Now,
		lots: make(map[string]*lot), logger: o.Logger,
	}
	if v.logger == nil {
		v.logger = slog.Default()
	}
	if v.now == nil {
		v.now = time.Now
	}
	return v
}

// Name is part of projections.Sink.
func (v *View) Name() string { return v.projection.Name }

// Types is part of projections.Sink.
func (v *View) Types() []string { return v.projection.Types }

// Touches is projections.Correcting.
func (v *View) Touches(e *eventstore.Recorded) bool { return v.projection.Touches(e) }

// Version is projections.Versioned.
func (v *View) Version() int { return v.projection.Version }

// Close is part of projections.Sink. The client stays open.
func (v *View) Close() error {
	v.sweeper.close()
	return nil
}

// Open is part of projections.Sink. It warns of a server that is set to evict keys.
func (v *View) Open(ctx context.Context) (projections.Cursor, error) {
	v.client.warnOfEviction(ctx, v.logger)
	at, err := v.Cursor(ctx)
	if err == nil {
		v.sweep()
	}
	return at, err
}

// Cursor is projections.CursorReader.
func (v *View) Cursor(ctx context.Context) (projections.Cursor, error) {
	h, err := v.head(ctx, v.names.cursor)
	if err != nil {
		return projections.Cursor{}, err
	}
	return h.at, nil
}

// Reset is part of projections.Sink.
func (v *View) Reset(ctx context.Context) error {
	if err := v.drop(ctx, v.names.cursor, v.names.building); err != nil {
		return err
	}
	v.sweep()
	return nil
}

// Digest is part of projections.Sink. ErrCursorMoved when the model was written to meanwhile.
func (v *View) Digest(ctx context.Context) (string, error) { return v.digest(ctx, v.names.cursor) }

// Commit is part of projections.Sink.
func (v *View) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	return v.commit(ctx, writer{cursor: v.names.cursor}, from, to, events)
}

// head is what stands in the hash of a cursor.
type head struct {
	generation int64
	version    int
	at         projections.Cursor
	edits      string
}

// head reads the hash of a cursor: ErrNoCursor when it is not whole, or of another version of the projection.
func (v *View) head(ctx context.Context, key string) (head, error) {
	cmd := v.client.reads.HMGet(ctx, key, headFields...)
	if err := cmd.Err(); err != nil {
		return head{}, v.client.unavailable("read cursor", err)
	}
	return v.parseHead(cmd)
}

var headFields = []string{fieldGeneration, fieldVersion, fieldPosition, fieldSeq, fieldEdits}

// parseHead returns what a read of headFields has found.
func (v *View) parseHead(cmd *redis.SliceCmd) (head, error) {
	values := cmd.Val()
	text := make([]string, len(headFields))
	for i := range values {
		text[i], _ = values[i].(string)
	}
	if text[0] == "" {
		return head{}, projections.ErrNoCursor
	}
	var h head
	var err1, err2, err3, err4 error
	h.generation, err1 = strconv.ParseInt(text[0], 10, 64)
	h.version, err2 = strconv.Atoi(text[1])
	h.at.Position, err3 = eventstore.ParsePosition(text[2])
	h.at.Seq, err4 = strconv.ParseUint(text[3], 10, 64)
	h.edits = text[4]
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return head{}, fmt.Errorf("%w: cursor %v of %s makes no sense: %w", projections.ErrNoCursor, text, v.Name(), err)
	}
	if h.version != v.projection.Version {
		return head{}, fmt.Errorf("%w: the model is of version %d, not %d", projections.ErrNoCursor, h.version, v.projection.Version)
	}
	return h, nil
}

// fields returns the hash of a cursor.
func (h *head) fields() []any {
	return []any{
		fieldGeneration, h.generation, fieldVersion, h.version,
		fieldPosition, h.at.Position.String(), fieldSeq, h.at.Seq, fieldEdits, h.edits,
	}
}

// newGeneration returns the number of a new generation. Numbers are never given twice, not even after the server was
// emptied: they count from the time, in milliseconds, at which the counter was made.
func (v *View) newGeneration(ctx context.Context) (int64, error) {
	pipe := v.client.reads.Pipeline()
	pipe.SetNX(ctx, v.names.generations, v.now().UnixMilli(), 0)
	n := pipe.Incr(ctx, v.names.generations)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, v.client.unavailable("number a generation", err)
	}
	return n.Val(), nil
}

// Generation returns the number of the live generation, which its keys hold; ErrNoCursor when there is none.
func (v *View) Generation(ctx context.Context) (int64, error) {
	h, err := v.head(ctx, v.names.cursor)
	return h.generation, err
}

package conflictview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/queries"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// Limits of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// Queries implements the service Conflicts over the model in Redis.
type Queries struct {
	sitesv1.UnimplementedConflictsServer

	Model queries.KeyReader
	// Progress says how far the model is; nil where there are no other sites, and so no conflicts.
	Progress queries.Progress
	// Now is the clock by which conflicts of the last hour, say, are found; nil: the machine's.
	Now func() time.Time
}

// record reads a record.
func (q *Queries) record(ctx context.Context, id string) (*Record, error) {
	value, err := q.Model.Get(ctx, recordKey(id))
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("read conflict %s: %w", id, err)
	}
	return r, nil
}

// ready waits until the model has what the caller's receipt says (X-Read-After), and returns how far it is.
func (q *Queries) ready(ctx context.Context) (eventstore.Position, error) {
	if q.Progress == nil {
		return eventstore.Position{}, fmt.Errorf("%w: this site replicates with no other, so there are no conflicts", eventstore.ErrUnsupported)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	var want eventstore.Position
	if tokens := md.Get("x-read-after"); len(tokens) > 0 {
		var err error
		if want, err = eventstore.ParsePosition(tokens[0]); err != nil {
			return want, err
		}
	}
	at, err := queries.Fresh(ctx, q.Progress, want, 0)
	if err != nil {
		return at, fmt.Errorf("wait for read model: %w", err)
	}
	return at, nil
}

// GetConflict returns one conflict.
func (q *Queries) GetConflict(ctx context.Context, r *sitesv1.GetConflictRequest) (*sitesv1.Conflict, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: id is empty", eventstore.ErrInvalid)
	}
	if _, err := q.ready(ctx); err != nil {
		return nil, err
	}
	record, err := q.record(ctx, r.GetId())
	if errors.Is(err, queries.ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no conflict of the event %q; list those that there are", queries.ErrNotFound, r.GetId())
	}
	if err != nil {
		return nil, fmt.Errorf("conflict %q: %w", r.GetId(), err)
	}
	return record.message(), nil
}

// ListConflicts lists conflicts, the latest first.
func (q *Queries) ListConflicts(ctx context.Context, r *sitesv1.ListConflictsRequest) (*sitesv1.ListConflictsResponse, error) {
	limit, offset, err := checked(r)
	if err != nil {
		return nil, err
	}
	stream, err := streamOf(r.GetStream())
	if err != nil {
		return nil, err
	}
	since, err := q.since(r.GetSince())
	if err != nil {
		return nil, err
	}
	at, err := q.ready(ctx)
	if err != nil {
		return nil, err
	}
	out := &sitesv1.ListConflictsResponse{Position: at.String()}
	set := allKey
	switch {
	case stream != "":
		set = streamKey(stream)
	case r.GetCategory() != "":
		set = categoryKey(r.GetCategory())
	}
	for {
		ids, total, err := q.Model.SortedPage(ctx, set, offset, maxPage)
		if err != nil {
			return nil, fmt.Errorf("list conflicts: %w", err)
		}
		for _, id := range ids {
			if len(out.Conflicts) == limit {
				out.NextPage = strconv.Itoa(offset)
				return out, nil
			}
			offset++
			record, err := q.record(ctx, id)
			if err != nil {
				return nil, fmt.Errorf("conflict %q: %w", id, err)
			}
			if record.AtMs < since {
				return out, nil // all that follow are older
			}
			if record.wanted(r) {
				out.Conflicts = append(out.Conflicts, record.message())
			}
		}
		if offset >= total || len(ids) == 0 {
			return out, nil
		}
	}
}

// checked says what of a request is wrong.
func checked(r *sitesv1.ListConflictsRequest) (limit, offset int, err error) {
	kinds := []string{"", string(replication.Concurrent), string(replication.DuplicateCommand)}
	verdicts := []string{"", string(commands.Merged), string(commands.Winner), string(commands.Voided), string(commands.NeedsReview), string(NotJudged)}
	limit = int(r.GetLimit())
	if limit == 0 {
		limit = defaultPage
	}
	if page := r.GetPage(); page != "" {
		if offset, err = strconv.Atoi(page); err != nil || offset < 0 {
			return 0, 0, fmt.Errorf("%w: page %q is not the next_page of an answer", eventstore.ErrInvalid, page)
		}
	}
	switch {
	case limit > maxPage:
		return 0, 0, fmt.Errorf("%w: limit %d is beyond %d", eventstore.ErrInvalid, limit, maxPage)
	case !slices.Contains(kinds, r.GetKind()):
		return 0, 0, fmt.Errorf("%w: kind %q is not one of %v", eventstore.ErrInvalid, r.GetKind(), kinds[1:])
	case !slices.Contains(verdicts, r.GetVerdict()):
		return 0, 0, fmt.Errorf("%w: verdict %q is not one of %v", eventstore.ErrInvalid, r.GetVerdict(), verdicts[1:])
	}
	if r.GetCategory() != "" {
		filter := eventstore.Filter{Categories: []string{r.GetCategory()}}
		if err := filter.Validate(); err != nil {
			return 0, 0, err
		}
	}
	return limit, offset, nil
}

// streamOf returns the whole name of a stream, as records have it; empty where none is named. CATEGORY/ID is of the default tenant.
func streamOf(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if strings.Count(name, "/") == 1 {
		name = eventstore.DefaultTenant + "/" + name
	}
	id, err := eventstore.ParseStreamID(name)
	if err != nil {
		return "", err
	}
	return id.String(), nil
}

// since returns the time from which conflicts are wanted, in Unix milliseconds: one that is named, or so long ago.
func (q *Queries) since(named string) (int64, error) {
	if named == "" {
		return math.MinInt64, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, named); err == nil {
		return t.UnixMilli(), nil
	}
	ago, err := time.ParseDuration(named)
	if err != nil || ago < 0 {
		return 0, fmt.Errorf("%w: since %q is neither a time such as 2026-03-04T05:06:07Z nor how long ago, such as 1h", eventstore.ErrInvalid, named)
	}
	now := time.Now
	if q.Now != nil {
		now = q.Now
	}
	return now().Add(-ago).UnixMilli(), nil
}

func (r *Record) wanted(q *sitesv1.ListConflictsRequest) bool {
	return (q.GetKind() == "" || r.Kind == q.GetKind()) && (q.GetVerdict() == "" || r.Verdict == q.GetVerdict()) &&
		(q.GetCategory() == "" || r.Category == q.GetCategory())
}

func (r *Record) message() *sitesv1.Conflict {
	m := &sitesv1.Conflict{
		Id: r.ID, Stream: r.Stream, Category: r.Category, Type: r.Type, At: timestamppb.New(time.UnixMilli(r.AtMs)), Hlc: r.HLC,
		Kind: r.Kind, Resolver: r.Resolver, Verdict: r.Verdict, Reason: r.Reason, Base: r.Base, Result: r.Result,
		SeenAt: r.Position, SeenBy: r.SeenBy,
	}
	for _, s := range r.With {
		m.With = append(m.With, &sitesv1.ConflictSpan{Log: s.Log, From: s.From, To: s.To})
	}
	for _, v := range r.Void {
		m.Void = append(m.Void, &sitesv1.ConflictVoid{Event: v.Event, Reason: v.Reason})
	}
	for _, w := range r.Overwritten {
		m.Overwritten = append(m.Overwritten, &sitesv1.ConflictOverwritten{Event: w.Event, Field: w.Field})
	}
	for _, b := range r.Branches {
		m.Branches = append(m.Branches, &sitesv1.ConflictBranch{Log: b.Log, Digest: b.Digest})
	}
	return m
}

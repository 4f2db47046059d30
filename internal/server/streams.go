package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Streams implements the StreamService over a store.
type Streams struct {
	apiv1.UnimplementedStreamServiceServer

	Store eventstore.Reader
	// PayloadJSON renders a payload whose schema is known; an empty answer means that it is not.
	PayloadJSON func(*eventstore.Recorded) string
}

// Limits of a page. The bytes are of payloads, and leave room below the 4 MiB that gRPC clients take by default: payloads
// travel as they are and as JSON.
const (
	defaultPage  = 100
	maxPage      = 1000
	maxPageBytes = 1 << 20
)

// ReadStream returns a page of a stream.
func (s *Streams) ReadStream(ctx context.Context, r *apiv1.ReadStreamRequest) (*apiv1.ReadStreamResponse, error) {
	id := eventstore.StreamID{Tenant: TenantOf(ctx, r.GetTenant()), Category: r.GetCategory(), ID: r.GetId()}
	if id.Tenant == "" {
		id.Tenant = eventstore.DefaultTenant
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	limit, err := pageSize(r.GetLimit(), defaultPage, maxPage)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ReadStreamResponse{}
	if out.Version, out.AsOf, err = s.version(ctx, id, r.GetAsOf()); err != nil {
		return nil, fmt.Errorf("version of %s: %w", id, err)
	}
	bytes, from := 0, r.GetFromVersion()
	read := s.Store.Read
	if r.GetBackwards() {
		read = s.Store.ReadBackwards
		if from == 0 || from > out.GetVersion() {
			from = out.GetVersion()
		}
	}
	if out.GetVersion() == 0 {
		return out, nil
	}
	for e, err := range read(ctx, id, from) {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", id, err)
		}
		if e.Version > out.GetVersion() {
			break
		}
		bytes += len(e.Payload)
		if len(out.Events) == limit || bytes > maxPageBytes && len(out.Events) > 0 {
			out.NextFromVersion = e.Version
			break
		}
		out.Events = append(out.Events, s.event(&e))
	}
	return out, nil
}

// version returns the version that a stream stands at, or stood at as of when the client says, and the position of then.
func (s *Streams) version(ctx context.Context, id eventstore.StreamID, asOf string) (version uint64, at string, err error) {
	if asOf == "" {
		version, err = s.Store.Version(ctx, id)
		return version, "", err
	}
	p, err := PositionAsOf(ctx, s.Store, asOf)
	if err != nil {
		return 0, "", err
	}
	version, err = s.Store.VersionAt(ctx, id, p)
	return version, p.String(), err
}

// ListEvents sends the log's events in order, without Tributary's own unless they are asked for.
func (s *Streams) ListEvents(r *apiv1.ListEventsRequest, stream grpc.ServerStreamingServer[apiv1.Event]) error {
	ctx := stream.Context()
	var after eventstore.Position
	if r.GetAfter() != "" {
		var err error
		if after, err = eventstore.ParsePosition(r.GetAfter()); err != nil {
			return err
		}
	}
	filter := eventstore.Filter{Tenant: TenantOf(ctx, r.GetTenant()), Categories: r.GetCategories(), Types: r.GetTypes()}
	if r.GetUntil() != "" {
		if r.GetFollow() {
			return problemf(kindInvalid, "leave one of the two out", "until ends what follow would go on with")
		}
		var err error
		if filter.Until, err = PositionAsOf(ctx, s.Store, r.GetUntil()); err != nil {
			return fmt.Errorf("until: %w", err)
		}
	}
	left := r.GetLimit()
	all := r.GetSystem() || slices.ContainsFunc(r.GetCategories(), eventstore.IsSystemCategory)
	send := func(e *eventstore.Recorded) (more bool, err error) {
		if !all && eventstore.IsSystemCategory(e.Stream.Category) {
			return true, nil
		}
		if err := stream.Send(s.event(e)); err != nil {
			return false, err
		}
		left--
		return left != 0, nil // a limit of 0 wraps around and never ends
	}
	if !r.GetFollow() {
		for e, err := range s.Store.ReadAll(ctx, after, filter) {
			if err != nil {
				return fmt.Errorf("read log: %w", err)
			}
			if more, err := send(&e); !more {
				return err
			}
		}
		return nil
	}
	return s.follow(ctx, after, filter, stream, send)
}

func (s *Streams) follow(ctx context.Context, after eventstore.Position, filter eventstore.Filter,
	stream grpc.ServerStream, send func(*eventstore.Recorded) (bool, error),
) error {
	sub, err := s.Store.Subscribe(ctx, after, filter)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer sub.Close()
	if err := stream.SendHeader(nil); err != nil { // the client learns that it is connected before the first event comes
		return err
	}
	for {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("follow log: %w", err)
		}
		for i := range chunk.Events {
			if more, err := send(&chunk.Events[i]); !more {
				return err
			}
		}
	}
}

func (s *Streams) event(e *eventstore.Recorded) *apiv1.Event {
	out := &apiv1.Event{
		Position: e.Position.String(), Dot: e.Dot.String(),
		Tenant: e.Stream.Tenant, Category: e.Stream.Category, StreamId: e.Stream.ID, Version: e.Version,
		Type: e.Type, SchemaVersion: uint32(e.SchemaVersion), EventId: e.Event.ID.String(),
		RecordedAt: timestamppb.New(e.Time()), Kind: e.Kind.String(), CommandId: e.CommandID,
		CausationId: e.Causation, CorrelationId: e.Correlation, Actor: e.Actor, Tags: e.Tags,
		ContentType: e.Encoding.ContentType(), Payload: e.Body(), Erased: e.Erased,
	}
	switch {
	case e.Encoding == eventstore.JSON:
		out.PayloadJson = string(e.Payload)
	case s.PayloadJSON != nil:
		out.PayloadJson = compact(s.PayloadJSON(e))
	}
	return out
}

// compact takes the spaces out of a JSON text, which protojson varies; what is not JSON stays as it is.
func compact(text string) string {
	var out bytes.Buffer
	if json.Compact(&out, []byte(text)) != nil {
		return text
	}
	return out.String()
}

// TenantOf returns the tenant that a request names, else the one that the call names, else nothing.
func TenantOf(ctx context.Context, named string) string {
	if named != "" {
		return named
	}
	return HeadersOf(ctx).Get("x-tenant")
}

// pageSize applies default and limit to a page size that a client asked for.
func pageSize(asked, byDefault, limit uint32) (int, error) {
	switch {
	case asked == 0:
		return int(byDefault), nil
	case asked > limit:
		return 0, fmt.Errorf("%w: limit %d is beyond %d", eventstore.ErrInvalid, asked, limit)
	}
	return int(asked), nil
}

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	// Heads says of which logs the store has events; nil stands for its own alone.
	Heads func(context.Context) ([]eventstore.LogHead, error)
	// PayloadJSON renders a payload whose schema is known; an empty answer means that it is not.
	PayloadJSON func(*eventstore.Recorded) string
	// Void says of a stream which events do not count, and why; nil stands for none ever.
	Void func(context.Context, eventstore.StreamID) (map[eventstore.Dot]string, error)
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
	p := page{limit: limit, response: &apiv1.ReadStreamResponse{}}
	if err := s.begin(ctx, id, r, &p); err != nil {
		return nil, fmt.Errorf("version of %s: %w", id, err)
	}
	if p.response.GetVersion() == 0 {
		return p.response, nil
	}
	read := s.Store.Read
	if r.GetBackwards() {
		read = s.Store.ReadBackwards
	}
	for e, err := range read(ctx, id, p.place) {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", id, err)
		}
		if !s.add(&p, &e) {
			break
		}
	}
	return p.response, nil
}

// page is a page of a stream that is being read. Pages go by places in the stream as it is read, which are its versions where
// one site wrote it; where several did, a version is what the site of the event had counted.
type page struct {
	response *apiv1.ReadStreamResponse
	limit    int
	bytes    int
	// asOf is the position as of which the stream is read; zero: now.
	asOf eventstore.Position
	// place is that of the next event, step leads from there to the one after, which may be back, and end is the last place
	// that may be read.
	place, step, end uint64
	void             map[eventstore.Dot]string
}

// begin finds out what there is to be read.
func (s *Streams) begin(ctx context.Context, id eventstore.StreamID, r *apiv1.ReadStreamRequest, p *page) (err error) {
	if r.GetAsOf() == "" {
		p.end, err = s.Store.Version(ctx, id)
	} else if p.asOf, err = PositionAsOf(ctx, s.Store, r.GetAsOf()); err == nil {
		p.response.AsOf = p.asOf.String()
		p.end, err = s.Store.VersionAt(ctx, id, p.asOf)
	}
	p.response.Version = p.end
	several := false
	if err == nil {
		several, err = s.several(ctx)
	}
	if err == nil && several {
		// What came later may stand before what was there then.
		p.end, err = s.Store.Version(ctx, id)
		if err == nil && s.Void != nil {
			if p.void, err = s.Void(ctx, id); errors.Is(err, eventstore.ErrTruncated) {
				err = nil // what is left can be read all the same
			}
		}
	}
	p.place, p.step = max(r.GetFromVersion(), 1), 1
	if r.GetBackwards() {
		p.place, p.step = min(r.GetFromVersion(), p.end), ^uint64(0)
		if p.place == 0 {
			p.place = p.end
		}
	}
	return err
}

// several reports whether the log has events of several logs, which a stream may be mixed of.
func (s *Streams) several(ctx context.Context) (bool, error) {
	if s.Heads == nil {
		return false, nil
	}
	heads, err := s.Heads(ctx)
	return len(heads) > 1, err
}

// add puts the next event on the page, and reports whether to go on.
func (s *Streams) add(p *page, e *eventstore.Recorded) bool {
	at := p.place
	p.place += p.step
	switch {
	case at > p.end: // it came when the page was begun
		return false
	case !p.asOf.IsZero() && e.Position.LSN > p.asOf.LSN:
		return true
	}
	p.bytes += len(e.Payload)
	if len(p.response.Events) == p.limit || p.bytes > maxPageBytes && len(p.response.Events) > 0 {
		p.response.NextFromVersion = at
		return false
	}
	event := s.event(e)
	event.VoidReason = p.void[e.Dot]
	event.Voided = event.GetVoidReason() != ""
	p.response.Events = append(p.response.Events, event)
	return true
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
	if err := filter.Validate(); err != nil {
		return err
	}
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

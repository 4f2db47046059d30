package storeapi

import (
	"fmt"
	"iter"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	"github.com/tributary-es/tributary/internal/server"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// pageBytes is how large a message of many events becomes. It is well below the 4 MiB that gRPC clients take by default.
const pageBytes = 128 << 10

// heldBytes bounds what a stream takes from the store at a time. With two pages, one that is being sent and one that waits
// for it, that is what a client holds of the server's memory who does not read.
const heldBytes = 128 << 10

// ReadStream sends a stream's events.
func (s *Service) ReadStream(m *storev1.ReadStreamRequest, stream grpc.ServerStreamingServer[storev1.ReadResponse]) error {
	ctx := stream.Context()
	id := eventstore.StreamID{Tenant: tenantOr(ctx, m.GetTenant(), eventstore.DefaultTenant), Category: m.GetCategory(), ID: m.GetId()}
	if err := id.Validate(); err != nil {
		return err
	}
	if s.Frames != nil && m.GetFrames() && !m.GetBackwards() && m.GetUntil() == "" && m.GetLimit() == 0 {
		return sendFrames(stream, s.Frames.ReadStreamFrames(ctx, id, m.GetFromVersion(), pageBytes))
	}
	read, from, limit := s.Store.Read, max(m.GetFromVersion(), 1), m.GetLimit()
	if m.GetBackwards() {
		read, from = s.Store.ReadBackwards, m.GetFromVersion()
	}
	if m.GetUntil() != "" {
		last, err := s.versionAsOf(ctx, id, m.GetUntil())
		switch {
		case err != nil:
			return err
		case last == 0 || !m.GetBackwards() && from > last:
			return nil
		case m.GetBackwards():
			from = min(from-1, last-1) + 1 // 0 is the last
		default:
			limit = min(limit-1, last-from) + 1 // 0 is no limit
		}
	}
	return send(stream, wire.NewPage(m.GetFrames()), read(ctx, id, from), limit, false)
}

// ReadAll sends the log's events.
func (s *Service) ReadAll(m *storev1.ReadAllRequest, stream grpc.ServerStreamingServer[storev1.ReadResponse]) error {
	ctx := stream.Context()
	filter := eventstore.Filter{
		Tenant: tenantOr(ctx, m.GetTenant(), ""), Categories: m.GetCategories(), Types: m.GetTypes(),
		Query: wire.DecodeQuery(m.GetQuery()), Chain: m.GetChain(), MaxBytes: heldBytes, Lent: true,
	}
	if err := checkFilter(&filter, m.GetFrames()); err != nil {
		return err
	}
	if s.Frames != nil && asKept(m, &filter) {
		after, err := wire.DecodePosition(m.GetAfter())
		if err != nil {
			return err
		}
		return sendFrames(stream, s.Frames.ReadFrames(ctx, after, pageBytes))
	}
	read, from, other := s.Store.ReadAll, m.GetAfter(), m.GetBefore()
	if m.GetBackwards() {
		read, from, other = s.Store.ReadAllBackwards, m.GetBefore(), m.GetAfter()
	}
	if other != "" {
		return fmt.Errorf("%w: after is for reads forwards, before for those backwards", eventstore.ErrInvalid)
	}
	at, err := wire.DecodePosition(from)
	if err != nil {
		return err
	}
	if m.GetUntil() != "" {
		if filter.Until, err = server.PositionAsOf(ctx, s.Store, m.GetUntil()); err != nil {
			return fmt.Errorf("until: %w", err)
		}
	}
	return send(stream, wire.NewPage(m.GetFrames()), read(ctx, at, filter), m.GetLimit(), filter.Chain)
}

// asKept reports whether a read is of all the log, as it is kept.
func asKept(m *storev1.ReadAllRequest, f *eventstore.Filter) bool {
	return m.GetFrames() && !m.GetBackwards() && m.GetBefore() == "" && m.GetUntil() == "" && m.GetLimit() == 0 &&
		!f.Chain && f.MatchesAll()
}

// sendFrames sends frames, each piece in a message.
func sendFrames(stream grpc.ServerStream, pieces iter.Seq2[eventstore.Frames, error]) error {
	for piece, err := range pieces {
		if err != nil {
			return err
		}
		if err := stream.SendMsg(wire.EncodeFrames(&piece)); err != nil {
			return err
		}
	}
	return nil
}

// checkFilter says what is wrong with a filter that came from outside.
func checkFilter(f *eventstore.Filter, frames bool) error {
	if f.Chain && !frames {
		return fmt.Errorf("%w: the hash chain comes with frames only", eventstore.ErrInvalid)
	}
	if n := max(len(f.Categories), len(f.Types)); n > maxAlternatives {
		return fmt.Errorf("%w: %d categories or types, the limit is %d", eventstore.ErrTooLarge, n, maxAlternatives)
	}
	return f.Validate()
}

// maxAlternatives bounds the categories and the types of a filter, each of which is looked up.
const maxAlternatives = 256

// send sends events in pages, at most limit of them; 0 is no limit.
func send(stream grpc.ServerStream, page *wire.Page, events iter.Seq2[eventstore.Recorded, error], limit uint64, chain bool) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		if page.Len() > 0 && page.Size()+len(e.Payload) > pageBytes {
			if err := stream.SendMsg(page.ReadResponse()); err != nil {
				return err
			}
		}
		page.Add(&e, chain)
		if limit--; limit == 0 { // a limit of 0 wraps around and never ends
			break
		}
	}
	if page.Len() == 0 {
		return nil
	}
	return stream.SendMsg(page.ReadResponse())
}

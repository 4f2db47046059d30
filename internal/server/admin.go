package server

import (
	"cmp"
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Admin implements the AdminService through what the node gives it. A function that is nil is not supported.
type Admin struct {
	apiv1.UnimplementedAdminServiceServer

	Status    func(context.Context) (*apiv1.Status, error)
	Outbox    func(ctx context.Context, status string, limit int) ([]*apiv1.OutboxMessage, error)
	Rebuild   func(ctx context.Context, projection string, progress func(*apiv1.RebuildProgress) error) error
	Parking   Parking
	Archiving Archiving
	Schemas   func(ctx context.Context, name string) ([]*apiv1.EventSchema, error)
	BackUp    func(ctx context.Context, folder string, progress func(*apiv1.BackupProgress) error) error
	VerifyAll func(ctx context.Context, parts []string, progress func(*apiv1.VerifyProgress) error) error
	ScrubAll  func(ctx context.Context, r *apiv1.ScrubRequest, progress func(*apiv1.ScrubProgress) error) error
}

// Parking lists what is set aside and sees to it.
type Parking interface {
	ListParked(ctx context.Context) (*apiv1.ListParkedResponse, error)
	RetryEvents(ctx context.Context, projection string, stream eventstore.StreamID) (applied int, err error)
	RetryInstances(ctx context.Context, saga, tenant, instance string) (applied int, err error)
	// HasSaga tells sagas from projections, which share a space of names.
	HasSaga(name string) bool
	SkipEvent(ctx context.Context, projection string, at eventstore.Position) error
}

// Archiving moves old events to an archive and looks after them there.
type Archiving interface {
	ArchiveEvents(ctx context.Context, r *apiv1.ArchiveRequest, progress func(*apiv1.ArchiveProgress) error) error
	DropEvents(ctx context.Context, r *apiv1.DropArchivedRequest, progress func(*apiv1.ArchiveProgress) error) error
	ListSegments() *apiv1.ListArchiveResponse
	VerifySegments(ctx context.Context, r *apiv1.VerifyArchiveRequest, progress func(*apiv1.ArchiveProgress) error) error
}

// GetStatus says how the server is.
func (a *Admin) GetStatus(ctx context.Context, _ *apiv1.GetStatusRequest) (*apiv1.Status, error) {
	if a.Status == nil {
		return nil, unsupported("status")
	}
	return a.Status(ctx)
}

// ListSchemas lists the schemas of events.
func (a *Admin) ListSchemas(ctx context.Context, r *apiv1.ListSchemasRequest) (*apiv1.ListSchemasResponse, error) {
	if a.Schemas == nil {
		return nil, unsupported("schemas")
	}
	list, err := a.Schemas(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && r.GetName() != "" {
		return nil, fmt.Errorf("schema of %s: %w", r.GetName(), eventstore.ErrNotFound)
	}
	return &apiv1.ListSchemasResponse{Schemas: list}, nil
}

// ListOutbox lists the messages of sagas.
func (a *Admin) ListOutbox(ctx context.Context, r *apiv1.ListOutboxRequest) (*apiv1.ListOutboxResponse, error) {
	limit, err := pageSize(r.GetLimit(), defaultPage, maxPage)
	if err != nil {
		return nil, err
	}
	switch r.GetStatus() {
	case "", "pending", "sent", "failed":
	default:
		return nil, problemf(kindInvalid, "use pending, sent or failed", "status %q is unknown", r.GetStatus())
	}
	if a.Outbox == nil {
		return nil, unsupported("an outbox")
	}
	messages, err := a.Outbox(ctx, r.GetStatus(), limit)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListOutboxResponse{Messages: messages}, nil
}

// ListParked lists what is parked.
func (a *Admin) ListParked(ctx context.Context, _ *apiv1.ListParkedRequest) (*apiv1.ListParkedResponse, error) {
	if a.Parking == nil {
		return nil, unsupported("parking")
	}
	return a.Parking.ListParked(ctx)
}

// RetryParked tries what is parked again.
func (a *Admin) RetryParked(ctx context.Context, r *apiv1.RetryParkedRequest) (*apiv1.RetryParkedResponse, error) {
	if a.Parking == nil {
		return nil, unsupported("parking")
	}
	applied, err := a.retryParked(ctx, r)
	if err != nil {
		return nil, err
	}
	return &apiv1.RetryParkedResponse{Applied: uint64(applied)}, nil
}

func (a *Admin) retryParked(ctx context.Context, r *apiv1.RetryParkedRequest) (int, error) {
	if a.Parking.HasSaga(r.GetName()) {
		if r.GetStream() != "" {
			return 0, problemf(kindInvalid, "give the instance instead", "%s is a saga, which parks instances, not streams", r.GetName())
		}
		return a.Parking.RetryInstances(ctx, r.GetName(), cmp.Or(r.GetTenant(), eventstore.DefaultTenant), r.GetInstance())
	}
	if r.GetInstance() != "" {
		return 0, problemf(kindInvalid, "give the stream instead", "%s is not a saga, and only sagas have instances", r.GetName())
	}
	var stream eventstore.StreamID
	if r.GetStream() != "" {
		var err error
		if stream, err = eventstore.ParseStreamID(r.GetStream()); err != nil {
			return 0, problemf(kindInvalid, "write it as tenant/category/id", "stream %q: %v", r.GetStream(), err)
		}
	}
	return a.Parking.RetryEvents(ctx, r.GetName(), stream)
}

// SkipParked drops a parked event for good.
func (a *Admin) SkipParked(ctx context.Context, r *apiv1.SkipParkedRequest) (*apiv1.SkipParkedResponse, error) {
	if a.Parking == nil {
		return nil, unsupported("parking")
	}
	at, err := eventstore.ParsePosition(r.GetPosition())
	if err != nil {
		return nil, problemf(kindInvalid, "take it from the list of what is parked", "position %q: %v", r.GetPosition(), err)
	}
	if err := a.Parking.SkipEvent(ctx, r.GetName(), at); err != nil {
		return nil, err
	}
	return &apiv1.SkipParkedResponse{}, nil
}

// RebuildProjection rebuilds a read model and sends its progress.
func (a *Admin) RebuildProjection(r *apiv1.RebuildProjectionRequest, stream grpc.ServerStreamingServer[apiv1.RebuildProgress]) error {
	if a.Rebuild == nil {
		return unsupported("rebuilding")
	}
	return a.Rebuild(stream.Context(), r.GetName(), stream.Send)
}

// Backup backs the log up and sends its progress.
func (a *Admin) Backup(r *apiv1.BackupRequest, stream grpc.ServerStreamingServer[apiv1.BackupProgress]) error {
	if a.BackUp == nil {
		return unsupported("backing up")
	}
	if r.GetFolder() == "" {
		return problemf(kindInvalid, "name a folder on the server's machine that is new or empty", "no folder is named")
	}
	return a.BackUp(stream.Context(), r.GetFolder(), stream.Send)
}

// Archive archives and sends its progress.
func (a *Admin) Archive(r *apiv1.ArchiveRequest, stream grpc.ServerStreamingServer[apiv1.ArchiveProgress]) error {
	if a.Archiving == nil {
		return unsupported("archiving")
	}
	return a.Archiving.ArchiveEvents(stream.Context(), r, stream.Send)
}

// DropArchived drops and sends its progress.
func (a *Admin) DropArchived(r *apiv1.DropArchivedRequest, stream grpc.ServerStreamingServer[apiv1.ArchiveProgress]) error {
	if a.Archiving == nil {
		return unsupported("archiving")
	}
	return a.Archiving.DropEvents(stream.Context(), r, stream.Send)
}

// ListArchive lists what is archived.
func (a *Admin) ListArchive(context.Context, *apiv1.ListArchiveRequest) (*apiv1.ListArchiveResponse, error) {
	if a.Archiving == nil {
		return nil, unsupported("archiving")
	}
	return a.Archiving.ListSegments(), nil
}

// VerifyArchive verifies what is archived and sends its progress.
func (a *Admin) VerifyArchive(r *apiv1.VerifyArchiveRequest, stream grpc.ServerStreamingServer[apiv1.ArchiveProgress]) error {
	if a.Archiving == nil {
		return unsupported("archiving")
	}
	return a.Archiving.VerifySegments(stream.Context(), r, stream.Send)
}

// Verify verifies and sends its progress.
func (a *Admin) Verify(r *apiv1.VerifyRequest, stream grpc.ServerStreamingServer[apiv1.VerifyProgress]) error {
	if a.VerifyAll == nil {
		return unsupported("verifying")
	}
	return a.VerifyAll(stream.Context(), r.GetParts(), stream.Send)
}

// Scrub scrubs and sends its progress.
func (a *Admin) Scrub(r *apiv1.ScrubRequest, stream grpc.ServerStreamingServer[apiv1.ScrubProgress]) error {
	if a.ScrubAll == nil {
		return unsupported("scrubbing")
	}
	if r.GetBytesPerSecond() < 0 {
		return problemf(kindInvalid, "", "bytes_per_second is %d", r.GetBytesPerSecond())
	}
	return a.ScrubAll(stream.Context(), r, stream.Send)
}

func unsupported(what string) error { return fmt.Errorf("%w: %s", eventstore.ErrUnsupported, what) }

package server

import (
	"context"

	"google.golang.org/grpc"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Admin implements the AdminService through what the node gives it.
type Admin struct {
	apiv1.UnimplementedAdminServiceServer

	Status    func(context.Context) (*apiv1.Status, error)
	Outbox    func(ctx context.Context, status string, limit int) ([]*apiv1.OutboxMessage, error)
	Rebuild   func(ctx context.Context, projection string, progress func(*apiv1.RebuildProgress) error) error
	VerifyAll func(ctx context.Context, parts []string, progress func(*apiv1.VerifyProgress) error) error
}

// GetStatus says how the server is.
func (a *Admin) GetStatus(ctx context.Context, _ *apiv1.GetStatusRequest) (*apiv1.Status, error) {
	return a.Status(ctx)
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
		return nil, problemf(400, "invalid", "Request is invalid", "use pending, sent or failed", "status %q is unknown", r.GetStatus())
	}
	messages, err := a.Outbox(ctx, r.GetStatus(), limit)
	return &apiv1.ListOutboxResponse{Messages: messages}, err
}

// RebuildProjection rebuilds a read model and sends its progress.
func (a *Admin) RebuildProjection(r *apiv1.RebuildProjectionRequest, stream grpc.ServerStreamingServer[apiv1.RebuildProgress]) error {
	return a.Rebuild(stream.Context(), r.GetName(), stream.Send)
}

// Verify verifies and sends its progress.
func (a *Admin) Verify(r *apiv1.VerifyRequest, stream grpc.ServerStreamingServer[apiv1.VerifyProgress]) error {
	return a.VerifyAll(stream.Context(), r.GetParts(), stream.Send)
}

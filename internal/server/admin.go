package server

import (
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
	VerifyAll func(ctx context.Context, parts []string, progress func(*apiv1.VerifyProgress) error) error
}

// GetStatus says how the server is.
func (a *Admin) GetStatus(ctx context.Context, _ *apiv1.GetStatusRequest) (*apiv1.Status, error) {
	if a.Status == nil {
		return nil, unsupported("status")
	}
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

// RebuildProjection rebuilds a read model and sends its progress.
func (a *Admin) RebuildProjection(r *apiv1.RebuildProjectionRequest, stream grpc.ServerStreamingServer[apiv1.RebuildProgress]) error {
	if a.Rebuild == nil {
		return unsupported("rebuilding")
	}
	return a.Rebuild(stream.Context(), r.GetName(), stream.Send)
}

// Verify verifies and sends its progress.
func (a *Admin) Verify(r *apiv1.VerifyRequest, stream grpc.ServerStreamingServer[apiv1.VerifyProgress]) error {
	if a.VerifyAll == nil {
		return unsupported("verifying")
	}
	return a.VerifyAll(stream.Context(), r.GetParts(), stream.Send)
}

func unsupported(what string) error { return fmt.Errorf("%w: %s", eventstore.ErrUnsupported, what) }

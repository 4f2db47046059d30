package server

import (
	"context"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Subjects implements the SubjectService through what the node gives it.
type Subjects struct {
	apiv1.UnimplementedSubjectServiceServer

	Erasures Erasures
}

// Erasures erases subjects. An empty tenant is the default one.
type Erasures interface {
	// EraseSubject is ErrNotFound for a subject that nothing is known of, unless that is asked for in advance.
	EraseSubject(ctx context.Context, tenant, id, reason, actor string, inAdvance bool) (*apiv1.Erasure, error)
	Subject(ctx context.Context, tenant, id string) (*apiv1.Erasure, error)
}

// EraseSubject erases a subject's personal data.
func (s *Subjects) EraseSubject(ctx context.Context, r *apiv1.EraseSubjectRequest) (*apiv1.Erasure, error) {
	return s.Erasures.EraseSubject(ctx, TenantOf(ctx, r.GetTenant()), r.GetId(), r.GetReason(), r.GetActor(), r.GetInAdvance())
}

// GetSubject says how far a subject's erasure is.
func (s *Subjects) GetSubject(ctx context.Context, r *apiv1.GetSubjectRequest) (*apiv1.Erasure, error) {
	return s.Erasures.Subject(ctx, TenantOf(ctx, r.GetTenant()), r.GetId())
}

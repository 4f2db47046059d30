package server

import (
	"context"

	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Failure says how the client of a session sees err, and logs what nobody foresaw, and damage: the same that the status of a call of
// its own would say. what names the call.
func (s *Server) Failure(ctx context.Context, what string, err error) *storev1.Failure {
	p := s.problem(ctx, what, false, err)
	receipt, _ := p.answer.(*storev1.Receipt)
	return &storev1.Failure{
		Code: uint32(p.grpc), Reason: p.reason(), Detail: p.Detail, Hint: p.Hint, RetryAfterSeconds: uint32(p.retryAfter),
		Faults: p.Faults, Conflict: p.conflict, Receipt: receipt,
	}
}

// Dropped is the error of who would have a read model filled from events that were dropped; hint says what to do instead.
func Dropped(hint, format string, args ...any) error {
	return problemf(kindDropped, hint, format, args...)
}

// Kept is the error of an append to streams that are written in another way only; hint says what to do instead.
func Kept(hint, format string, args ...any) error { return problemf(kindKept, hint, format, args...) }

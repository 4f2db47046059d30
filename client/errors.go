package client

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Error is what a server refused or could not do. It wraps the error of package eventstore that it stands for.
type Error struct {
	// Code is the gRPC status, Reason what it is ("invalid", "kept", …), Hint what to do about it.
	Code         codes.Code
	Reason, Hint string
	detail       string
	is           error
}

// Error returns what the server said.
func (e *Error) Error() string { return e.detail }

// Unwrap returns the error of package eventstore, nil for what a client can do nothing about.
func (e *Error) Unwrap() error { return e.is }

// sentinels are the errors that the server's reasons stand for: those of package wire, and reasons of the server's own.
var sentinels = func() map[string]error {
	out := map[string]error{
		"kept": eventstore.ErrInvalid, "closing": eventstore.ErrUnavailable, "busy": eventstore.ErrUnavailable,
		"timeout": eventstore.ErrUnavailable, "canceled": eventstore.ErrUnavailable,
	}
	for _, r := range wire.Reasons {
		out[r.Name] = r.Err
	}
	return out
}()

// byCode are the errors of statuses that gRPC itself gives.
var byCode = map[codes.Code]error{
	codes.Unavailable: eventstore.ErrUnavailable, codes.ResourceExhausted: eventstore.ErrTooLarge,
	codes.Unimplemented: eventstore.ErrUnsupported, codes.DeadlineExceeded: eventstore.ErrUnavailable, codes.Canceled: eventstore.ErrUnavailable,
}

// errorOf returns the error of a call that failed: ErrClosed when the client is closed, ctx's own when that ended, else
// what the server said.
func (c *Client) errorOf(ctx context.Context, err error) error {
	switch {
	case c.life.Err() != nil:
		return eventstore.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	f := &storev1.Failure{Code: uint32(s.Code()), Detail: s.Message()}
	first := ""
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			f.Reason, f.Hint = d.GetReason(), d.GetMetadata()["hint"]
			first = d.GetMetadata()["detail-"+wire.FirstDetail]
		case *storev1.Conflict:
			f.Conflict = d
		}
	}
	err = failureOf(f)
	var e *Error
	if errors.As(err, &e) && errors.Is(e.is, eventstore.ErrTruncated) {
		if at, bad := eventstore.ParsePosition(first); bad == nil { // one that is not known here leaves the plain error
			e.is = &eventstore.TruncatedError{First: at}
		}
	}
	return err
}

// cutShort reports whether the server has left an append before it knew what became of it.
func cutShort(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == codes.DeadlineExceeded || e.Code == codes.Canceled) && !errors.Is(err, eventstore.ErrDurabilityTimeout)
}

// failureOf returns the error that a failure stands for.
func failureOf(f *storev1.Failure) error {
	if f.GetConflict() != nil {
		conflict, err := wire.DecodeConflict(f.GetConflict())
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		return conflict
	}
	e := &Error{Code: codes.Code(f.GetCode()), Reason: f.GetReason(), Hint: f.GetHint(), detail: f.GetDetail()}
	if e.is = sentinels[e.Reason]; e.is == nil {
		e.is = byCode[e.Code]
	}
	return e
}

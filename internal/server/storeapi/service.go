package storeapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	"github.com/tributary-es/tributary/internal/server"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Service implements EventStore over a store.
type Service struct {
	storev1.UnimplementedEventStoreServer

	Store eventstore.Store
	// Frames, when set, gives whole reads the log's frames as they are kept.
	Frames eventstore.FrameReader
	// Heads says of which logs the store has events, and how far; nil stands for its own alone.
	Heads func(context.Context) ([]eventstore.LogHead, error)
	// Kept says what is not to be appended.
	Kept Kept
	// Failure says how the client of a session sees an error; what names the call. Required.
	Failure func(ctx context.Context, what string, err error) *storev1.Failure
}

// Append records a request's events.
func (s *Service) Append(ctx context.Context, m *storev1.AppendRequest) (*storev1.Receipt, error) {
	o, err := originOf(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.message(ctx, m, &o)
	if err != nil {
		return nil, err
	}
	receipt, err := recordedWith(s.Store.Append(ctx, r))
	if err != nil {
		return nil, err
	}
	return wire.EncodeReceipt(&receipt), nil
}

// recordedWith puts the receipt into an error that comes with a valid one.
func recordedWith(receipt eventstore.Receipt, err error) (eventstore.Receipt, error) {
	if errors.Is(err, eventstore.ErrDurabilityTimeout) {
		err = &recordedError{err, wire.EncodeReceipt(&receipt)}
	}
	return receipt, err
}

// recordedError is an error that comes with a valid receipt.
type recordedError struct {
	error
	receipt *storev1.Receipt
}

// Answer returns the receipt: the server gives it to the client together with the error.
func (e *recordedError) Answer() proto.Message { return e.receipt }

// Unwrap returns the error.
func (e *recordedError) Unwrap() error { return e.error }

// GetReceipt returns the receipt of a recorded request.
func (s *Service) GetReceipt(ctx context.Context, m *storev1.GetReceiptRequest) (*storev1.GetReceiptResponse, error) {
	if m.GetRequestId() == "" {
		return nil, fmt.Errorf("%w: request_id is empty", eventstore.ErrInvalid)
	}
	receipt, hash, err := s.Store.Receipt(ctx, tenantOr(ctx, m.GetTenant(), eventstore.DefaultTenant), m.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &storev1.GetReceiptResponse{Receipt: wire.EncodeReceipt(&receipt), RequestHash: hash[:]}, nil
}

// GetVersion returns the version of a stream.
func (s *Service) GetVersion(ctx context.Context, m *storev1.GetVersionRequest) (*storev1.GetVersionResponse, error) {
	stream := eventstore.StreamID{Tenant: tenantOr(ctx, m.GetTenant(), eventstore.DefaultTenant), Category: m.GetCategory(), ID: m.GetId()}
	if err := stream.Validate(); err != nil {
		return nil, err
	}
	version, err := s.versionAsOf(ctx, stream, m.GetUntil())
	if err != nil {
		return nil, err
	}
	return &storev1.GetVersionResponse{Version: version}, nil
}

// versionAsOf returns a stream's version as of a position or a time; an empty text is now.
func (s *Service) versionAsOf(ctx context.Context, stream eventstore.StreamID, until string) (uint64, error) {
	if until == "" {
		return s.Store.Version(ctx, stream)
	}
	at, err := server.PositionAsOf(ctx, s.Store, until)
	if err != nil {
		return 0, fmt.Errorf("until: %w", err)
	}
	return s.Store.VersionAt(ctx, stream, at)
}

// GetPosition returns how far the log was as of a time.
func (s *Service) GetPosition(ctx context.Context, m *storev1.GetPositionRequest) (*storev1.GetPositionResponse, error) {
	if err := m.GetTime().CheckValid(); err != nil {
		return nil, fmt.Errorf("%w: time: %w", eventstore.ErrInvalid, err)
	}
	at, err := s.Store.PositionAt(ctx, m.GetTime().AsTime())
	if err != nil {
		return nil, err
	}
	return &storev1.GetPositionResponse{Position: at.String()}, nil
}

// GetLog names the log and says how far it is durable.
func (s *Service) GetLog(ctx context.Context, _ *storev1.GetLogRequest) (*storev1.LogState, error) {
	state, err := s.Store.Log(ctx)
	if err != nil {
		return nil, err
	}
	return &storev1.LogState{
		Site: state.ID.Site, Shard: uint32(state.ID.Shard), Incarnation: state.ID.Incarnation,
		Durable: wire.EncodePosition(state.Durable), Seq: state.Seq, Chain: state.Chain[:], Streams: state.Streams,
	}, nil
}

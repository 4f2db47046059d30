package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// metaOf reads a command's Meta from the call's metadata. The request's hash, by which a reused idempotency key is told
// from a repeated request, covers the request as it was sent, before defaults.
func metaOf(ctx context.Context, request proto.Message) (commands.Meta, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if err := onlyDefaultTenant(md); err != nil {
		return commands.Meta{}, err
	}
	m := commands.Meta{
		ID: first(md, "idempotency-key"),
		Metadata: eventstore.Metadata{
			Causation: first(md, "x-causation-id"), Correlation: first(md, "x-correlation-id"),
			TraceParent: first(md, "traceparent"), TraceState: first(md, "tracestate"),
		},
	}
	var err error
	if m.Expect, err = eventstore.ParseIfMatch(md.Get("if-match")); err != nil {
		return m, err
	}
	if m.Durability, err = eventstore.ParseDurability(first(md, "x-durability")); err != nil {
		return m, err
	}
	if strings.HasPrefix(m.ID, sagaKeys) {
		return m, fmt.Errorf("%w: an Idempotency-Key must not begin with %s, which sagas use", eventstore.ErrInvalid, sagaKeys)
	}
	if m.ID != "" {
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
		if err != nil {
			return m, fmt.Errorf("encode request: %w", err)
		}
		h := sha256.New()
		h.Write([]byte(request.ProtoReflect().Descriptor().FullName()))
		h.Write([]byte{0})
		h.Write(body)
		h.Sum(m.Hash[:0])
	}
	return m, nil
}

// sagaKeys is what the idempotency keys of sagas begin with. They know their own events by it.
const sagaKeys = "saga/"

// onlyDefaultTenant refuses other tenants: the read models do not keep them apart.
func onlyDefaultTenant(md metadata.MD) error {
	if t := first(md, "x-tenant"); t != "" && t != eventstore.DefaultTenant {
		return fmt.Errorf("%w: the read models hold tenant %q, not %q", eventstore.ErrUnsupported, eventstore.DefaultTenant, t)
	}
	return nil
}

// callOf reads a query's metadata: the position that it waits for; zero means none.
func callOf(ctx context.Context) (readAfter eventstore.Position, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if err := onlyDefaultTenant(md); err != nil {
		return eventstore.Position{}, err
	}
	token := first(md, "x-read-after")
	if token == "" {
		return eventstore.Position{}, nil
	}
	if readAfter, err = eventstore.ParsePosition(token); err != nil {
		return eventstore.Position{}, fmt.Errorf("X-Read-After: %w", err)
	}
	return readAfter, nil
}

func first(md metadata.MD, name string) string {
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

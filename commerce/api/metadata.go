package api

import (
	"context"
	"crypto/sha256"
	"fmt"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// metaOf reads a command's Meta from the call's metadata. The request's hash, by which a reused idempotency key is told
// from a repeated request, covers the request as it was sent, before defaults.
func metaOf(ctx context.Context, request proto.Message) (commands.Meta, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	m := commands.Meta{
		Tenant: first(md, "x-tenant"),
		ID:     first(md, "idempotency-key"),
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

// readAfter returns the position that a query waits for; zero means none.
func readAfter(ctx context.Context) (eventstore.Position, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	token := first(md, "x-read-after")
	if token == "" {
		return eventstore.Position{}, nil
	}
	return eventstore.ParsePosition(token)
}

func first(md metadata.MD, name string) string {
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

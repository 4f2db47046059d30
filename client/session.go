package client

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/tributary-es/tributary/eventstore"
)

// ReadAfter returns a context whose reads wait until the server holds all that a session token names: that of a receipt is its Dot,
// that of several receipts the vector that covers them (eventstore.Vector.With). The server may be that of another site than gave the
// receipts. A read that waits longer than the server allows ends with eventstore.ErrUnavailable, once the client has been patient;
// its text says how far the site is.
func ReadAfter(ctx context.Context, token eventstore.Vector) context.Context {
	if len(token) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "x-read-after", token.String())
}

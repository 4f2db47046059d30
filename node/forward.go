package node

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
)

// forward sends a call on to the site where its stream is written. Whatever that answers is the answer; where none comes, the error says
// whether the call may have been carried out.
func (n *Node) forward(ctx context.Context, home, method string, request, answer proto.Message) error {
	_, region, _ := strings.Cut(home, "@")
	other, known := n.sites.other(region)
	if !known {
		return fmt.Errorf("%w: no site %q is known here, to which the call should be sent", eventstore.ErrUnavailable, region)
	}
	sent, err := other.peer.Forward(ctx, method, request, answer)
	s, ok := status.FromError(err)
	switch {
	case err == nil, !ok, len(s.Details()) > 0, s.Code() != codes.Unavailable && s.Code() != codes.DeadlineExceeded: // an answer, or nobody waits for one
		return err
	case !sent:
		return fmt.Errorf("%w: site %s, where the stream is written, cannot be reached: %s", eventstore.ErrUnavailable, region, s.Message())
	}
	return &eventstore.OutcomeUnknownError{
		ID:    requestID(ctx, request),
		Cause: fmt.Errorf("the request was sent on to site %s, where the stream is written, and no answer came: %s", region, s.Message()),
	}
}

// requestID returns the id of a request that is sent on: that in the request itself, else that in its metadata, if any.
func requestID(ctx context.Context, request proto.Message) string {
	if r, ok := request.(interface{ GetRequestId() string }); ok && r.GetRequestId() != "" {
		return r.GetRequestId()
	}
	out, _ := metadata.FromOutgoingContext(ctx)
	return strings.Join(out.Get("idempotency-key"), "")
}

package peers

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"
)

// Forward has the site answer a unary call that came here. ctx has the outgoing metadata; errors are gRPC statuses. sent is false where
// the request has certainly not left: no connection was there to take it.
func (p *Peer) Forward(ctx context.Context, method string, request, answer proto.Message) (sent bool, err error) {
	var left atomic.Bool
	err = p.conn.Invoke(context.WithValue(ctx, sentKey{}, &left), method, request, answer)
	return left.Load(), err
}

// sentKey is that of an *atomic.Bool in the context of a call, which becomes true when a connection takes the request.
type sentKey struct{}

// sentNotes is a stats.Handler that notes of calls that they have been sent.
type sentNotes struct{}

var _ stats.Handler = sentNotes{}

// TagRPC implements stats.Handler.
func (sentNotes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (sentNotes) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, payload := s.(*stats.OutPayload); !payload {
		return
	}
	if left, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		left.Store(true)
	}
}

// TagConn implements stats.Handler.
func (sentNotes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (sentNotes) HandleConn(context.Context, stats.ConnStats) {}

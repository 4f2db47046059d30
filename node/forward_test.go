package node

import (
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication/peers"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// serveAll runs a server of gRPC that does the same whatever it is asked.
func serveAll(t *testing.T, do func(*grpc.Server, grpc.ServerStream) error) (addr string) {
	t.Helper()
	var s *grpc.Server
	s = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return do(s, stream) }))
	return serveGRPC(t, s)
}

// A call that is sent on to another site, and gets no answer there, may have been carried out: it is not said to have left nothing. One
// that was never sent has; what the site answers is the answer.
func TestForwardedCallsWithoutAnswer(t *testing.T) {
	hangsUp := serveAll(t, func(s *grpc.Server, stream grpc.ServerStream) error {
		var r storev1.AppendRequest
		if err := stream.RecvMsg(&r); err != nil {
			return err
		}
		go s.Stop()
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	refuses := serveAll(t, func(*grpc.Server, grpc.ServerStream) error { return status.Error(codes.NotFound, "no such stream") })
	closed := listen(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	n := &Node{sites: &sitesPart{known: map[string]joinedPeer{}}}
	for site, addr := range map[string]string{"sh": hangsUp, "sz": closed.Addr().String(), "gz": refuses} {
		peer, err := peers.Dial("bj", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := peer.Close(); err != nil {
				t.Error(err)
			}
		})
		n.sites.known[site] = joinedPeer{Peer{Site: site}, peer}
	}
	send := func(site string, r *storev1.AppendRequest) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "of the header")
		return n.forward(ctx, "shard-01@"+site, storev1.EventStore_Append_FullMethodName, r, &storev1.Receipt{})
	}

	if err := send("sz", &storev1.AppendRequest{}); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Errorf("never sent: %v, want %v", err, eventstore.ErrUnavailable)
	}
	if err := send("tj", &storev1.AppendRequest{}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("to a site that is not known: %v, want %v", err, eventstore.ErrUnavailable)
	}
	if err := send("gz", &storev1.AppendRequest{}); status.Code(err) != codes.NotFound {
		t.Errorf("answered: %v, want the answer", err)
	}
	err := send("sh", &storev1.AppendRequest{RequestId: "k-1"})
	var unknown *eventstore.OutcomeUnknownError
	if !errors.As(err, &unknown) || unknown.ID != "k-1" || errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("sent, and the site hung up: %v, want %v with the id k-1", err, eventstore.ErrOutcomeUnknown)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "of the header")
	if got := requestID(ctx, &storev1.AppendRequest{}); got != "of the header" {
		t.Errorf("the id of a request that has none itself is %q", got)
	}
}

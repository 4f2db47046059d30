package bench

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/wire"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// connections are what the clients of a measurement share. One is not enough: each is served by one goroutine a side.
const connections = 4

type conns []*grpc.ClientConn

func dialAll(addr string) (conns, error) {
	var all conns
	for range connections {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec())))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect to %s: %w", addr, err), all.close())
		}
		all = append(all, conn)
	}
	return all, nil
}

func (c conns) close() error {
	var errs []error
	for _, conn := range c {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// appends returns what appends over each of the connections, an append a call.
func (c conns) appends() []appendsTo {
	out := make([]appendsTo, len(c))
	for i, conn := range c {
		out[i] = func(ctx context.Context, r *eventstore.Request) error {
			var m wire.Raw
			if err := conn.Invoke(ctx, storev1.EventStore_Append_FullMethodName, wire.RequestMessage(r), &m); err != nil {
				return err
			}
			_, err := wire.ReadReceipt(m.Bytes, r)
			return err
		}
	}
	return out
}

// serving is a server of this process, with connections to it.
type serving struct {
	conns conns
	addr  string
	stop  func() error
}

func (s *serving) close() error { return errors.Join(s.conns.close(), s.stop()) }

// serveStore serves the store API as a node does, without the rest of one; frames are those of the store itself.
func serveStore(ctx context.Context, store eventstore.Store, frames *pebblestore.Store) (*serving, error) {
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	if err := s.Register(&storeapi.ServiceDesc, &storeapi.Service{Store: store, Frames: frames, Failure: s.Failure}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return serve(ctx, s)
}

func serve(ctx context.Context, s *server.Server) (*serving, error) {
	if err := s.Listen(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	return connected(s.GRPCAddr(), func() error {
		cancel()
		return <-ended
	})
}

func connected(addr string, stop func() error) (*serving, error) {
	all, err := dialAll(addr)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &serving{conns: all, addr: addr, stop: stop}, nil
}

// echoMethod is a call that does nothing, as the yardstick: no server of unary calls that is made with gRPC is faster.
const echoMethod = "/bench.Echo/Echo"

// serveEcho serves it with a fixed answer, on a server of gRPC as it comes, without interceptors, metrics or limits. Its
// clients have as many connections as those of the store API, of the same kind.
func serveEcho(ctx context.Context, answer proto.Message) (*serving, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the empty call: %w", err)
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return answer, decode(&emptypb.Empty{})
		}}},
	}, struct{}{})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	return connected(l.Addr().String(), func() error {
		s.Stop()
		return <-ended
	})
}

// ownEchoRound measures calls that do nothing either, gRPC's own health check, on the server that a node has: what its
// interceptors, limits and counters cost is what it lacks to echoRound.
func ownEchoRound(ctx context.Context, l Load) (_ Side, err error) {
	s, err := serve(ctx, server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"}))
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	l.Batch, l.Rate = 1, 0
	return l.run(ctx, func(client int) error {
		return s.conns[client%len(s.conns)].Invoke(ctx, healthpb.Health_Check_FullMethodName, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	})
}

// echoRound measures calls that are answered at once, with as many clients as the load has.
func echoRound(ctx context.Context, l Load, answer proto.Message) (_ Side, err error) {
	s, err := serveEcho(ctx, answer)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	l.Batch, l.Rate = 1, 0
	return l.run(ctx, func(client int) error {
		return s.conns[client%len(s.conns)].Invoke(ctx, echoMethod, &emptypb.Empty{}, answer.ProtoReflect().New().Interface())
	})
}

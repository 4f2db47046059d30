package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
)

// Options of a Server. Zero values mean the defaults.
type Options struct {
	// HTTPAddr and GRPCAddr are what to listen on; default 127.0.0.1:8080 and 127.0.0.1:9090. Port 0 takes a free one.
	HTTPAddr, GRPCAddr string
	Logger             *slog.Logger
	// Version of the program, for /v1/health and the OpenAPI document.
	Version string
	// Run tells this run of the server from any other, for /v1/health/live.
	Run string
	// Folder identifies the data folder that the server works on, for /v1/health/live.
	Folder string
	// RequestTimeout bounds a unary call, and how long its request may take to arrive; default 30 s. MaxBodyBytes bounds a
	// request's body; default 8 MiB. MaxStreams bounds how many streams may be open; default 512.
	RequestTimeout time.Duration
	MaxBodyBytes   int64
	MaxStreams     int
	// Durability is that of commands and appends that name none; zero is eventstore.Local.
	Durability eventstore.Durability
	// DrainTimeout is how long Run waits for calls under way once its context ends; default 10 s.
	DrainTimeout time.Duration
	// Health says how each dependency is; nil means none.
	Health func(context.Context) []Dependency
	// HealthEvery is how often the gRPC health service learns what Health says; default 5 s. Over HTTP it is always asked.
	HealthEvery time.Duration
	// Sample says how log, mirror, projections and sagas are, for /metrics; nil means none. It is not called by New.
	Sample func() Sample
	// Forward, when set, sends a unary call on to the site that a shard's label names, where its stream is written, and fills
	// the answer in; the context has the metadata that the call came with. Its errors are gRPC statuses.
	Forward func(ctx context.Context, home, method string, request, answer proto.Message) error
	// Refuse, when set, says why a method is not answered; nil where it is.
	Refuse func(method string) error
	// Head, when set, returns how far this site's log is: a call that is to be answered after a later position is refused.
	Head func(ctx context.Context) (eventstore.Position, error)
	// Locate, when set, returns where this site's log holds all that a session token names, and waits for that; Session returns what
	// an answer that is given now may rest on, for its token.
	Locate  func(ctx context.Context, token eventstore.Vector) (eventstore.Position, error)
	Session func(ctx context.Context) (eventstore.Vector, error)
	// Page serves GET / and all below /console/; nil means 404.
	Page http.Handler
}

func (o *Options) setDefaults() {
	if o.HTTPAddr == "" {
		o.HTTPAddr = "127.0.0.1:8080"
	}
	if o.GRPCAddr == "" {
		o.GRPCAddr = "127.0.0.1:9090"
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = 30 * time.Second
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = 8 << 20
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 512
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = 10 * time.Second
	}
	if o.HealthEvery <= 0 {
		o.HealthEvery = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server offers services over HTTP/JSON and gRPC.
type Server struct {
	options  Options
	log      *slog.Logger
	mux      *http.ServeMux
	grpc     *grpc.Server
	health   *health.Server
	services []string
	routes   []*route
	plain    []string        // patterns of plain routes
	paths    map[string]bool // "METHOD /path" of every route of a service
	metrics  *metrics

	httpListener, grpcListener net.Listener
	openStreams                atomic.Int64
	closing                    context.Context // ends when the server begins to close
	close                      context.CancelFunc
}

// Limits that are not worth an option.
const (
	maxHeaderBytes = 32 << 10
	// readHeaderBytes is what of a request's head is read over HTTP, so that one that is beyond the limit is answered with a problem, as
	// all is: what net/http refuses by itself gets a line of text.
	readHeaderBytes   = 8 * maxHeaderBytes
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	// answerTimeout is how long a client may take to read an answer, beyond the time that the call may take.
	answerTimeout = 30 * time.Second
	// callWorkers is how many goroutines of gRPC stay when their call is over. What a call costs beyond them is a new
	// goroutine, whose stack has to grow first.
	callWorkers = 256
	// callsPerConnection bounds the calls that one connection of HTTP/2 may carry at once besides MaxStreams streams: a stream that
	// is one too many is told so, and does not wait without a word.
	callsPerConnection = 512
	// streamWindow and connWindow are what a call and a connection may send ahead of being read: some large messages, so that
	// a client with many of them need not wait for the server's word after each.
	streamWindow = 1 << 20
	connWindow   = 4 << 20
)

// New returns a server that listens on nothing yet: register services, then Listen, then Run. It must be run or closed.
func New(o Options) *Server {
	o.setDefaults()
	s := &Server{
		options: o, log: o.Logger, mux: http.NewServeMux(), health: health.NewServer(),
		paths: map[string]bool{}, metrics: newMetrics(o.Sample),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.metrics.countStreams(&s.openStreams)
	s.grpc = grpc.NewServer(
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.NumStreamWorkers(callWorkers),
		grpc.ForceServerCodecV2(wire.NewCodec()),
		grpc.MaxRecvMsgSize(int(o.MaxBodyBytes)),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(uint32(o.MaxStreams+callsPerConnection)),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.ConnectionTimeout(readHeaderTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.mux.HandleFunc("GET /v1/health", s.serveHealth)
	s.mux.HandleFunc("GET /v1/health/ready", s.serveHealth)
	s.mux.HandleFunc("GET /v1/health/live", s.serveLive)
	s.mux.Handle("GET /metrics", s.metrics.handler())
	s.mux.HandleFunc("GET /openapi.json", s.serveOpenAPI)
	s.mux.HandleFunc("/", s.serveUnknown)
	if o.Page != nil {
		s.mux.Handle("GET /{$}", o.Page)
		s.mux.Handle("GET /console/", o.Page)
	}
	return s
}

// Register offers a service over both protocols. It must come before Run.
func (s *Server) Register(sd *grpc.ServiceDesc, impl any) error {
	routes, err := routesOf(sd, impl)
	if err != nil {
		return err
	}
	s.grpc.RegisterService(sd, impl)
	s.services = append(s.services, sd.ServiceName)
	s.health.SetServingStatus(sd.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	for _, rt := range routes {
		s.mux.HandleFunc(rt.pattern(), s.handle(rt))
		s.paths[rt.pattern()] = true
	}
	s.routes = append(s.routes, routes...)
	return nil
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Options of a Server. Zero values mean the defaults.
type Options struct {
	// HTTPAddr and GRPCAddr are what to listen on; default 127.0.0.1:8080 and 127.0.0.1:9090. Port 0 takes a free one.
	HTTPAddr, GRPCAddr string
	Logger             *slog.Logger
	// Version of the program, for /v1/health and the OpenAPI document.
	Version string
	// RequestTimeout bounds a unary call; default 30 s. MaxBodyBytes bounds a request's body; default 8 MiB.
	RequestTimeout time.Duration
	MaxBodyBytes   int64
	// DrainTimeout is how long Run waits for calls under way once its context ends; default 10 s.
	DrainTimeout time.Duration
	// Health says how each dependency is; nil means none.
	Health func(context.Context) []Dependency
	// Sample says how log, mirror, projections and sagas are, for /metrics; nil means none.
	Sample func() Sample
	// Page serves everything below / that is not an API route; nil means 404.
	Page http.Handler
}

// Server offers services over HTTP/JSON and gRPC.
type Server struct {
	options Options
	log     *slog.Logger
	mux     *http.ServeMux
	grpc    *grpc.Server
	health  *health.Server
	routes  []*route
	metrics *metrics

	httpListener, grpcListener net.Listener
	closing                    context.Context
	close                      context.CancelFunc
}

// New returns a server that listens on nothing yet: register services, then Listen, then Run.
func New(o Options) *Server {
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
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{options: o, log: o.Logger, mux: http.NewServeMux(), health: health.NewServer(), metrics: newMetrics(o.Sample)}
	s.closing, s.close = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(
		grpc.ChainUnaryInterceptor(s.metrics.unary, s.unaryStatus, s.intercept),
		grpc.ChainStreamInterceptor(s.metrics.stream, s.streamStatus),
		grpc.MaxRecvMsgSize(int(o.MaxBodyBytes)),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(1024),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.mux.HandleFunc("GET /v1/health", s.serveHealth)
	s.mux.HandleFunc("GET /v1/health/live", s.serveLive)
	s.mux.Handle("GET /metrics", s.metrics.handler())
	s.mux.HandleFunc("GET /openapi.json", s.serveOpenAPI)
	s.mux.HandleFunc("/v1/", s.serveUnknown)
	if o.Page != nil {
		s.mux.Handle("GET /", o.Page)
	}
	return s
}

const maxHeaderBytes = 32 << 10

// Register offers a service over both protocols. It must come before Run.
func (s *Server) Register(sd *grpc.ServiceDesc, impl any) error {
	routes, err := routesOf(sd, impl)
	if err != nil {
		return err
	}
	s.grpc.RegisterService(sd, impl)
	s.health.SetServingStatus(sd.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	for _, rt := range routes {
		s.mux.HandleFunc(rt.method+" "+rt.path, s.handle(rt))
	}
	s.routes = append(s.routes, routes...)
	return nil
}

// Listen takes both ports. A taken port is an error that names the flag to change it.
func (s *Server) Listen(ctx context.Context) error {
	var err error
	if s.httpListener, err = listen(ctx, s.options.HTTPAddr, "--http"); err != nil {
		return err
	}
	if s.grpcListener, err = listen(ctx, s.options.GRPCAddr, "--grpc"); err != nil {
		return errors.Join(err, s.httpListener.Close())
	}
	return nil
}

func listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, splitErr := net.SplitHostPort(addr)
		if splitErr != nil {
			host = "127.0.0.1"
		}
		return nil, fmt.Errorf("listen on %s: the port is taken by another program; choose one with %s HOST:PORT, or %s %s for a free one",
			addr, flag, flag, net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, flag, err)
	}
	return l, nil
}

// HTTPAddr returns the address of the HTTP listener; it is known after Listen.
func (s *Server) HTTPAddr() string { return s.httpListener.Addr().String() }

// GRPCAddr returns the address of the gRPC listener.
func (s *Server) GRPCAddr() string { return s.grpcListener.Addr().String() }

// Run serves until ctx ends, then takes no new calls, ends the streams, waits for the calls under way up to DrainTimeout,
// and returns. It returns early with the error of a listener that fails.
func (s *Server) Run(ctx context.Context) error {
	web := &http.Server{
		Handler:           s.limit(s.mux),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := web.Serve(s.httpListener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := s.grpc.Serve(s.grpcListener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve grpc: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		return s.drain(web)
	})
	return g.Wait()
}

func (s *Server) drain(web *http.Server) error {
	s.health.Shutdown()
	s.close()
	ctx, cancel := context.WithTimeout(context.Background(), s.options.DrainTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	err := web.Shutdown(ctx)
	select {
	case <-stopped:
	case <-ctx.Done():
		s.grpc.Stop()
		<-stopped
	}
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("calls were still under way at the end of the drain time and were cut", slog.Duration("after", s.options.DrainTimeout))
		return web.Close()
	}
	return err
}

// limit bounds what every request may take of the server, and sets the headers every answer has.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// serveUnknown answers for paths below /v1 that no route takes: 405 where the path exists for another method, else 404.
func (s *Server) serveUnknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "" && pattern != "/v1/" {
			allowed = append(allowed, method)
		}
	}
	p := problemf(404, "not-found", "Not found", "GET /openapi.json lists the routes", "there is no %s", r.URL.Path)
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p = problemf(405, "method", "Method is not allowed", "use "+strings.Join(allowed, " or "), "%s does not take %s", r.URL.Path, r.Method)
	}
	p.write(w, r)
}

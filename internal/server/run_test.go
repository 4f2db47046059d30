package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/internal/server"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// Calls under way are answered, streams are told, and nothing new begins.
func TestShutdownDrains(t *testing.T) {
	began, release := make(chan struct{}, 2), make(chan struct{})
	f := &fakes{ship: func(ctx context.Context, r *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		began <- struct{}{}
		select {
		case <-release:
			return &commerceapiv1.Receipt{Id: r.GetId()}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	r := start(t, server.Options{}, f)
	r.fill(t, 1)
	web, rpc := make(chan answer, 1), make(chan error, 1)
	go func() { web <- r.do(t, "POST", "/v1/orders/A/ship", "") }()
	go func() {
		_, err := commerceapiv1.NewCommandServiceClient(r.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A"})
		rpc <- err
	}()
	<-began
	<-began
	lines := r.open(t, "GET", "/v1/events?follow=true")
	read(t, lines)
	stream, err := apiv1.NewStreamServiceClient(r.conn).ListEvents(t.Context(), &apiv1.ListEventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	watch, err := grpc_health_v1.NewHealthClient(r.conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if e := read(t, lines); e.Problem.Status != 503 || !strings.HasSuffix(e.Problem.Type, "/closing") {
		t.Errorf("last line of the stream: %+v", e)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("last of the gRPC stream: %v", err)
	}
	soon(t, "no new connections are taken", func() bool {
		conn, err := net.DialTimeout("tcp", r.HTTPAddr(), time.Second)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("stopped before the calls under way were answered: %v", err)
	default:
	}
	close(release)
	if a := <-web; a.status != 200 {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if err := <-rpc; err != nil {
		t.Errorf("gRPC %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// A call that does not end is cut when the time to drain is over.
func TestShutdownIsBounded(t *testing.T) {
	began := make(chan struct{}, 2)
	f := &fakes{ship: func(ctx context.Context, _ *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	log := &recordedLog{}
	r := start(t, server.Options{DrainTimeout: 50 * time.Millisecond, Logger: log.logger()}, f)
	ended := make(chan struct{}, 2)
	go func() {
		resp, err := r.web.Post(r.base+"/v1/orders/A/ship", "", http.NoBody)
		if err == nil {
			resp.Body.Close()
		}
		ended <- struct{}{}
	}()
	go func() {
		_, _ = commerceapiv1.NewCommandServiceClient(r.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{})
		ended <- struct{}{}
	}()
	<-began
	<-began
	begin := time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	<-ended
	<-ended
	if !strings.Contains(log.String(), "were cut") {
		t.Errorf("the log says nothing of it: %s", log)
	}
}

// A port that is taken is told with an address that is free, and with no flag: the program that serves may have none.
func TestTakenPortsAreNamed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for protocol, o := range map[string]server.Options{
		"HTTP": {HTTPAddr: addr, GRPCAddr: "127.0.0.1:0"},
		"gRPC": {HTTPAddr: "127.0.0.1:0", GRPCAddr: addr},
	} {
		s := server.New(o)
		err := s.Listen(t.Context())
		var e *server.TakenError
		if !errors.As(err, &e) || e.Addr != addr || e.Protocol != protocol || !strings.HasPrefix(e.Free, "127.0.0.1:") || strings.HasSuffix(e.Free, ":0") ||
			!strings.HasSuffix(err.Error(), e.Free) || strings.Contains(err.Error(), "--") {
			t.Errorf("%s: %v", protocol, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func TestCloseFreesPortsThatWereNeverServed(t *testing.T) {
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := server.Options{HTTPAddr: s.HTTPAddr(), GRPCAddr: s.GRPCAddr()}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	next := server.New(again)
	if err := next.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHealthOverBothProtocols(t *testing.T) {
	var redis, store atomic.Bool
	redis.Store(true)
	store.Store(true)
	o := server.Options{Version: "1.2.3", HealthEvery: time.Millisecond, Health: func(context.Context) []server.Dependency {
		return []server.Dependency{{Name: "store", Up: store.Load(), Required: true, Mode: "embedded"}, {Name: "redis", Up: redis.Load(), Mode: "r:6379", Problem: "why"}}
	}}
	r := start(t, o, &fakes{})
	client := grpc_health_v1.NewHealthClient(r.conn)
	serving := func(service string) func() bool {
		return func() bool {
			h, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
			return err == nil && h.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
		}
	}
	soon(t, "serving", serving("tributary.commerce.api.v1.CommandService"))
	a := r.do(t, "GET", "/v1/health", "")
	want := `{"live":true,"ready":true,"version":"1.2.3","dependencies":[{"name":"store","up":true,"required":true,"mode":"embedded"},` +
		`{"name":"redis","up":true,"required":false,"mode":"r:6379","problem":"why"}]}` + "\n"
	if a.status != 200 || string(a.body) != want {
		t.Errorf("HTTP %d %s, want %s", a.status, a.body, want)
	}
	redis.Store(false)
	if a := r.do(t, "GET", "/v1/health/ready", ""); a.status != 200 {
		t.Errorf("without what is not required: HTTP %d %s", a.status, a.body)
	}
	store.Store(false)
	if a := r.do(t, "GET", "/v1/health", ""); a.status != 503 || !strings.Contains(string(a.body), `"ready":false`) {
		t.Errorf("without what is required: HTTP %d %s", a.status, a.body)
	}
	if a := r.do(t, "GET", "/v1/health/live", ""); a.status != 200 || !strings.Contains(string(a.body), `"dependencies":[]`) {
		t.Errorf("live: HTTP %d %s", a.status, a.body)
	}
	soon(t, "gRPC says it too", func() bool { return !serving("")() && !serving("tributary.api.v1.StreamService")() })
	store.Store(true)
	soon(t, "and that it is well again", serving(""))
}

func TestReflectionListsTheServices(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"grpc.health.v1.Health", "tributary.api.v1.StreamService", "tributary.commerce.api.v1.QueryService"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
}

func TestMetrics(t *testing.T) {
	var asked atomic.Int32
	feedLag := uint64(6)
	e := newEcho()
	r := start(t, server.Options{Sample: func() server.Sample {
		asked.Add(1)
		return server.Sample{
			LogEvents: 11, LogStreams: 3, LogPosition: 12, MirrorLag: 4, FeedLag: &feedLag, SagasOpen: map[string]uint64{"checkout": 2},
			Projections: []server.ProjectionSample{{Name: "shop", Sink: "redis", Lag: 5, LagSeconds: .5, Rate: 9, Parked: 1, Live: true}},
			Syncers: []server.SyncerSample{
				{Name: "link sh", Healthy: true, LagSeconds: 1.5, Calls: 3, Failures: 2}, {Name: "user-sync", Calls: 1, Failures: 1}, {Name: "link sh"},
			},
		}
	}}, &e.fakes)
	if asked.Load() != 0 {
		t.Error("New took a sample of what may not be there yet")
	}
	r.do(t, "GET", "/v1/orders/A", "")
	r.do(t, "POST", "/v1/orders", "{")
	r.do(t, "GET", "/nowhere", "")
	if _, err := commerceapiv1.NewQueryServiceClient(r.conn).GetOrder(t.Context(), &commerceapiv1.GetOrderRequest{}); err != nil {
		t.Fatal(err)
	}
	a := r.do(t, "GET", "/metrics", "")
	for _, want := range []string{
		`http_requests_total{code="200",route="GET /v1/orders/{id}",service="QueryService"} 1`,
		`http_requests_total{code="400",route="POST /v1/orders",service="CommandService"} 1`,
		`http_requests_total{code="404",route="none",service="none"} 1`,
		`http_request_duration_seconds_count{route="GET /v1/orders/{id}",service="QueryService"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="/tributary.commerce.api.v1.QueryService/GetOrder"} 1`,
		`tributary_log_events 11`, `tributary_log_position 12`, `tributary_mirror_lag_events 4`, `tributary_feed_lag_events 6`, `tributary_saga_open{saga="checkout"} 2`,
		`tributary_projection_lag_events{projection="shop",sink="redis"} 5`, `tributary_projection_rate{projection="shop",sink="redis"} 9`,
		`tributary_projection_parked_events{projection="shop",sink="redis"} 1`, `tributary_projection_live{projection="shop",sink="redis"} 1`,
		`tributary_syncer_healthy{syncer="link sh"} 1`, `tributary_syncer_lag_seconds{syncer="link sh"} 1.5`, `tributary_syncer_calls_total{syncer="link sh"} 3`,
		`tributary_syncer_healthy{syncer="user-sync"} 0`, `tributary_syncer_failures_total{syncer="user-sync"} 1`,
		`tributary_streams_open 0`, "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("no %s", want)
		}
	}
	if a.status != 200 {
		t.Errorf("HTTP %d", a.status)
	}
}

func TestThePageIsServed(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("page " + r.URL.Path)) })
	r := start(t, server.Options{Page: page}, &fakes{})
	for path, want := range map[string]int{"/": 200, "/console/x.js": 200, "/other": 404} {
		if a := r.do(t, "GET", path, ""); a.status != want || want == 200 && string(a.body) != "page "+path {
			t.Errorf("%s: HTTP %d %s", path, a.status, a.body)
		}
	}
	if a := r.do(t, "POST", "/", ""); a.status != 405 || !json.Valid(a.body) {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
}

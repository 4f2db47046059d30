package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server that runs, with a client for each protocol.
type rig struct {
	*server.Server
	base  string
	conn  *grpc.ClientConn
	web   *http.Client
	store *memstore.Store
	stop  func() error
}

// fakes are implementations whose methods a test sets.
type fakes struct {
	ship  func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error)
	place func(context.Context, *commerceapiv1.PlaceOrderRequest) (*commerceapiv1.Receipt, error)
	order func(context.Context, *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error)
	sales func(context.Context, *commerceapiv1.GetSalesRequest) (*commerceapiv1.Sales, error)
	admin server.Admin
	void  func(context.Context, eventstore.StreamID) (map[eventstore.Dot]string, error)
}

type fakeCommands struct {
	commerceapiv1.UnimplementedCommandServiceServer
	*fakes
}

func (f fakeCommands) ShipOrder(ctx context.Context, r *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
	return f.ship(ctx, r)
}

func (f fakeCommands) PlaceOrder(ctx context.Context, r *commerceapiv1.PlaceOrderRequest) (*commerceapiv1.Receipt, error) {
	return f.place(ctx, r)
}

type fakeQueries struct {
	commerceapiv1.UnimplementedQueryServiceServer
	*fakes
}

func (f fakeQueries) GetOrder(ctx context.Context, r *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
	return f.order(ctx, r)
}

func (f fakeQueries) GetSales(ctx context.Context, r *commerceapiv1.GetSalesRequest) (*commerceapiv1.Sales, error) {
	return f.sales(ctx, r)
}

// closed closes a server that was never run.
func closed(tb testing.TB, s *server.Server) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
}

func start(tb testing.TB, o server.Options, f *fakes) *rig {
	tb.Helper()
	o.HTTPAddr, o.GRPCAddr = "127.0.0.1:0", "127.0.0.1:0"
	s := server.New(o)
	store := memstore.New(memstore.Options{})
	all, err := groups.Open(tb.Context(), store, groups.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	streams := &server.Streams{Store: store, Heads: store.Heads, Void: f.void}
	for _, service := range []struct {
		desc *grpc.ServiceDesc
		impl any
	}{
		{&commerceapiv1.CommandService_ServiceDesc, fakeCommands{fakes: f}},
		{&commerceapiv1.QueryService_ServiceDesc, fakeQueries{fakes: f}},
		{&apiv1.StreamService_ServiceDesc, streams},
		{&storev1.ConsumerGroups_ServiceDesc, &server.Groups{Groups: all}},
		{&apiv1.AdminService_ServiceDesc, &f.admin},
	} {
		if err := s.Register(service.desc, service.impl); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(func() {
		if err := errors.Join(all.Close(), store.Close()); err != nil {
			tb.Error(err)
		}
	})
	r := run(tb, s)
	r.store = store
	return r
}

// run has a server listen and run until the test ends.
func run(tb testing.TB, s *server.Server) *rig {
	tb.Helper()
	if err := s.Listen(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	r := &rig{Server: s, base: "http://" + s.HTTPAddr(), conn: conn, web: &http.Client{Transport: transport}, stop: stop}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// answer is an HTTP answer that was read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem(tb testing.TB) server.Problem {
	tb.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		tb.Fatalf("content type %q of %s, want a problem", ct, a.body)
	}
	var p server.Problem
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		tb.Fatalf("%v: %s", err, a.body)
	}
	return p
}

// do sends a request; headers are given as name, value, name, value.
func (r *rig) do(tb testing.TB, method, path, body string, headers ...string) answer {
	tb.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = bytes.NewReader([]byte(body))
	}
	req, err := http.NewRequestWithContext(tb.Context(), method, r.base+path, reader)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := r.web.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func grpcHeader(md *metadata.MD) grpc.CallOption { return grpc.Header(md) }

// fill appends n events to one stream each.
func (r *rig) fill(tb testing.TB, n int) {
	tb.Helper()
	for range n {
		_, err := r.store.Append(tb.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("thing", "1"),
			Events: []eventstore.Event{{Type: "thing.happened.v1", Encoding: eventstore.JSON, Payload: []byte(`{"a":1}`)}},
		}}})
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// soon fails the test unless the condition comes true within seconds.
func soon(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if condition() {
			return
		}
	}
	tb.Fatalf("waited in vain: %s", what)
}

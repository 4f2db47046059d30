package storeapi_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server that runs, with a client for each protocol.
type rig struct {
	storev1.EventStoreClient
	store eventstore.Store
	http  string
	grpc  string // address
	// stop stops the server as SIGTERM does, and returns when it is gone.
	stop func() error
}

func start(t *testing.T) *rig {
	t.Helper()
	return startWith(t, memstore.New(memstore.Options{}))
}

func startWith(t *testing.T, store eventstore.Store, change ...func(*storeapi.Service)) *rig {
	t.Helper()
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	service := &storeapi.Service{
		Store: store, Failure: s.Failure,
		Kept: storeapi.Kept{Categories: map[string]bool{"order": true}, Types: map[string]bool{"order.created.v1": true}},
	}
	for _, c := range change {
		c(service)
	}
	if err := s.Register(&storeapi.ServiceDesc, service); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{EventStoreClient: storev1.NewEventStoreClient(conn), store: store, http: "http://" + s.HTTPAddr(), grpc: s.GRPCAddr()}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		for _, end := range []func() error{conn.Close, r.stop, store.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// post sends JSON and returns the status and the answer.
func (r *rig) post(t *testing.T, path, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.http+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (r *rig) mustAppend(t *testing.T, m *storev1.AppendRequest) *storev1.Receipt {
	t.Helper()
	receipt, err := r.Append(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// detail returns the detail of a status that is an M.
func detail[M any](t *testing.T, err error) (found M) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if m, ok := d.(M); ok {
			return m
		}
	}
	t.Fatalf("%v has no detail of type %T", err, found)
	return found
}

// to returns what appends n events to a stream of category thing.
func to(id string, n int) *storev1.StreamAppend {
	a := &storev1.StreamAppend{Category: "thing", Id: id}
	for range n {
		a.Events = append(a.Events, &storev1.NewEvent{Type: "thing.happened.v1", PayloadJson: `{"a":1}`})
	}
	return a
}

func at(id string, version uint64, n int) *storev1.StreamAppend {
	a := to(id, n)
	a.Expect = &storev1.StreamAppend_Version{Version: version}
	return a
}

func request(appends ...*storev1.StreamAppend) *storev1.AppendRequest {
	return &storev1.AppendRequest{Appends: appends}
}

package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/internal/server"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// handlerOf is a server without connections.
func handlerOf(tb testing.TB, f *fakes) http.Handler {
	tb.Helper()
	s := server.New(server.Options{MaxBodyBytes: 64 << 10})
	tb.Cleanup(func() { closed(tb, s) })
	for desc, impl := range []any{fakeCommands{fakes: f}, fakeQueries{fakes: f}} {
		if err := s.Register(allServices[desc], impl); err != nil {
			tb.Fatal(err)
		}
	}
	return s.Handler()
}

// Whatever is sent is either refused with a problem that says why, or reaches the method as the JSON form of protobuf
// says; it is never an error of the server.
func FuzzRequests(f *testing.F) {
	for _, seed := range []struct{ id, query, body string }{
		{"A-1", "", `{"id":"A-1","lines":[{"stock_code":"x","quantity":"2","unit_price":"2.55"}],"placed_at":"2011-01-01T00:00:00.5Z"}`},
		{"A/..%", "a=1", `{"lines":[[[]]]}`},
		{"", "limit=1&from=2011", `null`},
		{"\xff", "country=%ff", `{"id":"\ud800"}`},
		{"x", "read_after=1-1&offset=4294967296", strings.Repeat("[", 70)},
		{"x", "%zz", `{"placedAt":"0001-01-01T00:00:00Z"} x`},
	} {
		f.Add(seed.id, seed.query, seed.body)
	}
	e := newEcho()
	handler := handlerOf(f, &e.fakes)
	f.Fuzz(func(t *testing.T, id, query, body string) {
		for _, request := range []struct{ method, path, query, body string }{
			{"POST", "/v1/orders", "", body},
			{"POST", "/v1/orders/" + url.PathEscape(id) + "/ship", "", body},
			{"GET", "/v1/sales/" + url.PathEscape(id), query, ""},
		} {
			r := httptest.NewRequest(request.method, "/", strings.NewReader(request.body))
			u, err := url.Parse("http://localhost" + request.path)
			if err != nil {
				t.Fatal(err)
			}
			u.RawQuery = request.query
			r.URL, r.Host, r.RequestURI = u, "localhost", u.RequestURI()
			e.request = nil
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			at := fmt.Sprintf("%s %s %q: %d %s", request.method, r.RequestURI, request.body, w.Code, w.Body)
			switch {
			case w.Code >= 300 && w.Code < 400: // a path with empty or dotted segments is cleaned
				continue
			case w.Code >= 500, !json.Valid(w.Body.Bytes()):
				t.Fatal(at)
			case w.Code >= 400:
				var p server.Problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Detail == "" {
					t.Fatal(at)
				}
				continue
			case e.request == nil:
				t.Fatal("answered without the method: " + at)
			}
			if request.path == "/v1/orders" && request.body != "" {
				want := &commerceapiv1.PlaceOrderRequest{}
				if err := protojson.Unmarshal([]byte(request.body), want); err != nil || !proto.Equal(want, e.request) {
					t.Fatalf("the method got %v, want %v (%v): %s", e.request, want, err, at)
				}
			}
		}
	})
}

func TestSpacesAreTakenOut(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                           `{}`,
		`{"a": 1, "b c": [true, -1]}`:  `{"a":1,"b c":[true,-1]}`,
		`{"a \\": "\" , : ", "b": ""}`: `{"a \\":"\" , : ","b":""}`,
	} {
		if got := string(server.WithoutSpaces([]byte(text))); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

// benchmarkOrder is an order of 20 lines.
func benchmarkOrder(id string) *commerceapiv1.Order {
	o := &commerceapiv1.Order{Id: id, CustomerId: "17850", Status: "shipped", Country: "France", Currency: "GBP", Total: "123.45", PlacedAt: timestamppb.New(time.Unix(1300000000, 0)), Version: 3, Position: "1-42"}
	for i := range uint32(20) {
		o.Lines = append(o.Lines, &commerceapiv1.OrderedLine{Number: i + 1, StockCode: "85123A", Description: "WHITE HANGING HEART T-LIGHT HOLDER", Quantity: 6, UnitPrice: "2.55"})
	}
	return o
}

// BenchmarkOrderOverHTTP is a query of an order of 20 lines from 64 clients, with a read model that costs nothing. It says
// the latency that 99 of 100 requests stay below.
func BenchmarkOrderOverHTTP(b *testing.B) {
	f := &fakes{order: func(_ context.Context, r *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
		return benchmarkOrder(r.GetId()), nil
	}}
	r := start(b, server.Options{}, f)
	const clients = 64
	var mu sync.Mutex
	var all []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			var took []time.Duration
			for i := c; i < b.N; i += clients {
				begin := time.Now()
				if a := r.do(b, "GET", "/v1/orders/A-1", ""); a.status != http.StatusOK {
					b.Errorf("HTTP %d", a.status)
					return
				}
				took = append(took, time.Since(begin))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(percentile(all, 99).Microseconds())/1000, "p99-ms")
}

// BenchmarkOrderHandler is the same without connections: what the server itself costs.
func BenchmarkOrderHandler(b *testing.B) {
	f := &fakes{order: func(_ context.Context, r *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
		return benchmarkOrder(r.GetId()), nil
	}}
	handler := handlerOf(b, f)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/orders/A-1", http.NoBody))
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkPlaceOrderHandler decodes an order of 20 lines.
func BenchmarkPlaceOrderHandler(b *testing.B) {
	e := newEcho()
	handler := handlerOf(b, &e.fakes)
	var lines []string
	for range 20 {
		lines = append(lines, `{"stock_code":"85123A","description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":6,"unit_price":"2.55"}`)
	}
	body := `{"customer_id":"17850","country":"France","lines":[` + strings.Join(lines, ",") + `]}`
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://localhost/v1/orders", strings.NewReader(body)))
		if w.Code != http.StatusCreated {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkEvents sends the log as lines of JSON.
func BenchmarkEvents(b *testing.B) {
	r := start(b, server.Options{}, &fakes{})
	const events = 5000
	r.fill(b, events)
	b.ResetTimer()
	for range b.N {
		if a := r.do(b, "GET", "/v1/events", ""); a.status != http.StatusOK || strings.Count(string(a.body), "\n") != events {
			b.Fatalf("HTTP %d, %d bytes", a.status, len(a.body))
		}
	}
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// echo keeps what its methods were called with.
type echo struct {
	fakes
	request proto.Message
	md      metadata.MD
	calls   int
}

func newEcho() *echo {
	e := &echo{}
	keep := func(ctx context.Context, m proto.Message) {
		e.request, e.calls = m, e.calls+1
		e.md, _ = metadata.FromIncomingContext(ctx)
	}
	e.place = func(ctx context.Context, r *commerceapiv1.PlaceOrderRequest) (*commerceapiv1.Receipt, error) {
		keep(ctx, r)
		return &commerceapiv1.Receipt{Id: "A/1 ü", Stream: "default/order/A/1 ü", Version: 2, Position: "1-9", Durability: "local"}, nil
	}
	e.ship = func(ctx context.Context, r *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		keep(ctx, r)
		return &commerceapiv1.Receipt{Id: r.GetId()}, nil
	}
	e.order = func(ctx context.Context, r *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
		keep(ctx, r)
		return &commerceapiv1.Order{Id: r.GetId(), Version: 7, Position: "1-8"}, nil
	}
	e.sales = func(ctx context.Context, r *commerceapiv1.GetSalesRequest) (*commerceapiv1.Sales, error) {
		keep(ctx, r)
		return &commerceapiv1.Sales{}, nil
	}
	return e
}

func TestRequestsReachTheMethod(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path, body string
		headers            []string
		want               proto.Message
	}{
		"body":            {"POST", "/v1/orders", `{"id":"A","lines":[{"stock_code":"x","quantity":2}],"placed_at":"2011-01-02T03:04:05Z"}`, nil, nil},
		"camelCase":       {"POST", "/v1/orders", `{"customerId":"7"}`, nil, &commerceapiv1.PlaceOrderRequest{CustomerId: "7"}},
		"curl -d":         {"POST", "/v1/orders", `{"id":"A"}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, &commerceapiv1.PlaceOrderRequest{Id: "A"}},
		"charset":         {"POST", "/v1/orders", `{"id":"A"}`, []string{"Content-Type", "application/json; charset=UTF-8"}, &commerceapiv1.PlaceOrderRequest{Id: "A"}},
		"no body":         {"POST", "/v1/orders", ``, nil, &commerceapiv1.PlaceOrderRequest{}},
		"path":            {"POST", "/v1/orders/A%2F1%20%C3%BC/ship", ``, nil, &commerceapiv1.ShipOrderRequest{Id: "A/1 ü"}},
		"path and body":   {"POST", "/v1/orders/A/ship", `{"id":"A"}`, nil, &commerceapiv1.ShipOrderRequest{Id: "A"}},
		"dots in path":    {"GET", "/v1/orders/%2E%2E", ``, nil, &commerceapiv1.GetOrderRequest{Id: ".."}},
		"query":           {"GET", "/v1/sales/by-day?from=2011-01-01&country=EIRE%20&limit=5&offset=2", ``, nil, &commerceapiv1.GetSalesRequest{Group: "by-day", From: "2011-01-01", Country: "EIRE ", Limit: 5, Offset: 2}},
		"read_after":      {"GET", "/v1/orders/A?read_after=1-5", ``, nil, &commerceapiv1.GetOrderRequest{Id: "A"}},
		"deep, not quite": {"POST", "/v1/orders", `{"id":"` + strings.Repeat("[{", 100) + `\"[[["}`, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEcho()
			r := start(t, server.Options{}, &e.fakes)
			a := r.do(t, tt.method, tt.path, tt.body, tt.headers...)
			if a.status >= 300 {
				t.Fatalf("HTTP %d %s", a.status, a.body)
			}
			if tt.want != nil && !proto.Equal(e.request, tt.want) {
				t.Errorf("the method got %v, want %v", e.request, tt.want)
			}
			if strings.Contains(tt.path, "read_after") && fmt.Sprint(e.md["x-read-after"]) != "[1-5]" {
				t.Errorf("metadata %v", e.md)
			}
		})
	}
}

func TestAnswersHaveHeaders(t *testing.T) {
	e := newEcho()
	r := start(t, server.Options{}, &e.fakes)
	a := r.do(t, "POST", "/v1/orders", "{}")
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Position": "1-9", "Etag": `"2"`, "Location": "/v1/orders/A%2F1%20%C3%BC", "X-Content-Type-Options": "nosniff",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	want := `{"id":"A/1 ü","stream":"default/order/A/1 ü","version":"2","position":"1-9","durability":"local","duplicate":false,"session":""}` + "\n"
	if a.status != 201 || string(a.body) != want {
		t.Errorf("HTTP %d %s, want 201 %s", a.status, a.body, want)
	}
	if again := r.do(t, "GET", a.header.Get("Location"), ""); again.status != 200 || again.header.Get("Etag") != `"7"` {
		t.Errorf("HTTP %d, headers %v", again.status, again.header)
	}
	var header metadata.MD
	_, err := commerceapiv1.NewQueryServiceClient(r.conn).GetOrder(t.Context(), &commerceapiv1.GetOrderRequest{Id: "A"}, grpcHeader(&header))
	if err != nil || fmt.Sprint(header["x-position"], header["etag"]) != `[1-8] ["7"]` {
		t.Errorf("%v, gRPC headers %v", err, header)
	}
}

func TestRequestsAreRefused(t *testing.T) {
	json := []string{"Content-Type", "application/json"}
	deep := strings.Repeat(`{"lines":[`, 40)
	for name, tt := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		kind, detail       string
	}{
		"number for a string": {"POST", "/v1/orders", `{"lines":[{"unit_price":4.25}]}`, json, 400, "invalid", `write it as a string: "4.25"`},
		"unknown field":       {"POST", "/v1/orders", `{"nme":1}`, json, 400, "invalid", `unknown field "nme"`},
		"not JSON":            {"POST", "/v1/orders", `{"id":`, json, 400, "invalid", "body: "},
		"two values":          {"POST", "/v1/orders", `{} {}`, json, 400, "invalid", "body: "},
		"field twice":         {"POST", "/v1/orders", `{"id":"a","id":"b"}`, json, 400, "invalid", "id"},
		"wrong type":          {"POST", "/v1/orders", `{"lines":[{"quantity":"much"}]}`, json, 400, "invalid", "quantity"},
		"number too large":    {"POST", "/v1/orders", `{"lines":[{"quantity":92233720368547758080}]}`, json, 400, "invalid", "quantity"},
		"bad UTF-8":           {"POST", "/v1/orders", "{\"id\":\"\xff\"}", json, 400, "invalid", "UTF-8"},
		"deep":                {"POST", "/v1/orders", deep, json, 400, "invalid", "deeper than 64"},
		"large":               {"POST", "/v1/orders", `{"id":"` + strings.Repeat("x", 2000) + `"}`, json, 413, "too-large", "1000 bytes"},
		"gzip":                {"POST", "/v1/orders", `{}`, []string{"Content-Encoding", "gzip"}, 415, "media-type", "gzip"},
		"text":                {"POST", "/v1/orders", `{}`, []string{"Content-Type", "text/plain"}, 415, "media-type", "text/plain"},
		"latin":               {"POST", "/v1/orders", `{}`, []string{"Content-Type", "application/json; charset=latin1"}, 415, "media-type", "latin1"},
		"path against body":   {"POST", "/v1/orders/A/ship", `{"id":"B"}`, json, 400, "invalid", "id is A in the path and B in the body"},
		"body where none":     {"POST", "/v1/verify", `{"parts":["log"]}`, json, 400, "invalid", "takes none"},
		"parameter":           {"GET", "/v1/sales/by-day?form=2011", "", nil, 400, "invalid", `parameter "form" is unknown`},
		"parameter with body": {"POST", "/v1/orders?id=1", "{}", json, 400, "invalid", `parameter "id" is unknown`},
		"parameter twice":     {"GET", "/v1/sales/by-day?limit=1&limit=2", "", nil, 400, "invalid", "given 2 times"},
		"bad number":          {"GET", "/v1/sales/by-day?limit=-1", "", nil, 400, "invalid", `limit: "-1" is not a number`},
		"bad flag":            {"GET", "/v1/events?follow=perhaps", "", nil, 400, "invalid", `follow: "perhaps" is not true or false`},
		"bad escape":          {"GET", "/v1/sales/by-day?from=%zz", "", nil, 400, "invalid", "query"},
		"path in query":       {"GET", "/v1/sales/by-day?group=by-month", "", nil, 400, "invalid", `parameter "group" is unknown`},
		"read_after nowhere":  {"GET", "/v1/status?read_after=1-1", "", nil, 400, "invalid", `parameter "read_after" is unknown`},
		"read_after twice":    {"GET", "/v1/orders/A?read_after=1-1", "", []string{"X-Read-After", "1-1"}, 400, "invalid", "give it once"},
		"no route":            {"GET", "/v1/nothing", "", nil, 404, "not-found", "/v1/nothing"},
		"no route, elsewhere": {"GET", "/favicon.ico", "", nil, 404, "not-found", "/favicon.ico"},
		"no page":             {"GET", "/", "", nil, 404, "not-found", "/"},
		"method":              {"DELETE", "/v1/orders/A", "", nil, 405, "method", "does not take DELETE"},
		"method, no route":    {"POST", "/metrics", "", nil, 405, "method", "does not take POST"},
		"key twice":           {"POST", "/v1/orders", "{}", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, "invalid", "Idempotency-Key is given more than once"},
		"key empty":           {"POST", "/v1/orders", "{}", []string{"Idempotency-Key", " "}, 400, "invalid", "Idempotency-Key is empty"},
		"key long":            {"POST", "/v1/orders", "{}", []string{"Idempotency-Key", strings.Repeat("k", 257)}, 400, "invalid", "longer than 256"},
		"key binary":          {"POST", "/v1/orders", "{}", []string{"Idempotency-Key", "\xff"}, 400, "invalid", "unprintable"},
		"other page":          {"POST", "/v1/orders", "{}", []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross-origin", "cross-origin"},
		"other origin":        {"POST", "/v1/verify", "", []string{"Origin", "https://evil.example"}, 403, "cross-origin", "cross-origin"},
		"other host":          {"GET", "/v1/orders/A", "", []string{"Host", "evil.example:8080"}, 421, "host", "evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEcho()
			r := start(t, server.Options{MaxBodyBytes: 1000}, &e.fakes)
			a := r.do(t, tt.method, tt.path, tt.body, tt.headers...)
			p := a.problem(t)
			if a.status != tt.status || p.Status != tt.status || !strings.HasSuffix(p.Type, "/"+tt.kind) || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("HTTP %d %s, want %d %s %q", a.status, a.body, tt.status, tt.kind, tt.detail)
			}
			if strings.ContainsRune(p.Detail, '\u00a0') {
				t.Errorf("detail %q varies its spaces", p.Detail)
			}
			if e.calls != 0 {
				t.Error("the method was called")
			}
			if (a.status == 405) != (a.header.Get("Allow") != "") {
				t.Errorf("Allow %q", a.header.Get("Allow"))
			}
		})
	}
}

func TestLocalNamesAreAnswered(t *testing.T) {
	e := newEcho()
	r := start(t, server.Options{}, &e.fakes)
	for _, host := range []string{"localhost", "localhost:8080", "127.0.0.1", "[::1]:8080", "10.1.2.3:80", "shop.localhost"} {
		if a := r.do(t, "GET", "/v1/orders/A", "", "Host", host); a.status != 200 {
			t.Errorf("%s: HTTP %d %s", host, a.status, a.body)
		}
	}
}

// Metadata is checked the same way over gRPC, and a trace context never fails a call.
func TestMetadataOverBothProtocols(t *testing.T) {
	e := newEcho()
	r := start(t, server.Options{}, &e.fakes)
	client := commerceapiv1.NewCommandServiceClient(r.conn)
	_, err := client.ShipOrder(metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "a", "idempotency-key", "b"), &commerceapiv1.ShipOrderRequest{})
	if status.Code(err) != codes.InvalidArgument || e.calls != 0 {
		t.Errorf("two keys: %v", err)
	}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, tt := range map[string]struct{ parent, state, wantParent, wantState string }{
		"good":          {parent, "a=1", parent, "a=1"},
		"bad parent":    {"nonsense", "a=1", "", ""},
		"state alone":   {"", "a=1", "", ""},
		"long state":    {parent, strings.Repeat("x", 600), parent, ""},
		"upper case id": {strings.ToUpper(parent), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := fmt.Sprintf("k %s %s", tt.wantParent, tt.wantState)
			seen := func() string {
				return fmt.Sprintf("%s %s %s", one(e.md, "idempotency-key"), one(e.md, "traceparent"), one(e.md, "tracestate"))
			}
			headers := []string{"Idempotency-Key", "k"}
			pairs := []string{"idempotency-key", "k"}
			if tt.parent != "" {
				headers, pairs = append(headers, "Traceparent", tt.parent), append(pairs, "traceparent", tt.parent)
			}
			if tt.state != "" {
				headers, pairs = append(headers, "Tracestate", tt.state), append(pairs, "tracestate", tt.state)
			}
			if a := r.do(t, "POST", "/v1/orders/A/ship", "", headers...); a.status != 200 || seen() != want {
				t.Errorf("HTTP %d %s: metadata %q, want %q", a.status, a.body, seen(), want)
			}
			e.md = nil
			if _, err := client.ShipOrder(metadata.AppendToOutgoingContext(t.Context(), pairs...), &commerceapiv1.ShipOrderRequest{}); err != nil || seen() != want {
				t.Errorf("gRPC %v: metadata %q, want %q", err, seen(), want)
			}
		})
	}
}

// A call that names no durability has that of the server, over both protocols and on plain routes; one that names one keeps it.
func TestDurabilityOfCallsThatNameNone(t *testing.T) {
	for given, want := range map[string]string{"": "kafka", "local": "local", "peer": "peer"} {
		e := newEcho()
		r := start(t, server.Options{Durability: eventstore.Kafka}, &e.fakes)
		var headers, pairs []string
		if given != "" {
			headers, pairs = []string{"X-Durability", given}, []string{"x-durability", given}
		}
		if a := r.do(t, "POST", "/v1/orders/A/ship", "", headers...); a.status != 200 || one(e.md, "x-durability") != want {
			t.Errorf("named %q, HTTP %d %s: durability %q, want %q", given, a.status, a.body, one(e.md, "x-durability"), want)
		}
		client := commerceapiv1.NewCommandServiceClient(r.conn)
		if _, err := client.ShipOrder(metadata.AppendToOutgoingContext(t.Context(), pairs...), &commerceapiv1.ShipOrderRequest{}); err != nil || one(e.md, "x-durability") != want {
			t.Errorf("named %q, gRPC %v: durability %q, want %q", given, err, one(e.md, "x-durability"), want)
		}
		s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Durability: eventstore.Kafka})
		s.Handle("POST /v1/points", func(_ context.Context, r *http.Request) (any, error) {
			meta, err := server.Meta(r)
			return meta.Durability.String(), err
		})
		if a := run(t, s).do(t, "POST", "/v1/points", "", headers...); a.status != 200 || strings.TrimSpace(string(a.body)) != fmt.Sprintf("%q", want) {
			t.Errorf("named %q, on a plain route: HTTP %d %s, want %q", given, a.status, a.body, want)
		}
	}
}

func one(md metadata.MD, name string) string { return strings.Join(md[name], ",") }

// A request that does not arrive is given up, and so is one with endless headers.
func TestSlowAndHugeRequestsEnd(t *testing.T) {
	e := newEcho()
	r := start(t, server.Options{RequestTimeout: 100 * time.Millisecond}, &e.fakes)
	for name, send := range map[string]string{
		"body that stops": "POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
		"huge headers":    "GET /v1/orders/A HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", r.HTTPAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, send); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("HTTP %d", resp.StatusCode)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("HTTP %d is answered as %q, want a problem", resp.StatusCode, ct)
			}
		})
	}
	if e.calls != 0 {
		t.Error("the method was called")
	}
}

func TestPlainRoutes(t *testing.T) {
	e := newEcho()
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	_ = e
	s.Handle("POST /v1/points/{id}/earn", func(ctx context.Context, r *http.Request) (any, error) {
		meta, err := server.Meta(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if r.PathValue("id") == "panic" {
			panic("secret")
		}
		return map[string]string{"id": r.PathValue("id"), "key": meta.ID, "body": string(body)}, nil
	})
	r := run(t, s)
	if a := r.do(t, "POST", "/v1/points/7/earn", `{"n":1}`, "Idempotency-Key", "k"); a.status != 200 || !json.Valid(a.body) ||
		!strings.Contains(string(a.body), `"id":"7"`) || !strings.Contains(string(a.body), `"key":"k"`) || !strings.Contains(string(a.body), `{\"n\":1}`) {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	for name, tt := range map[string]struct {
		path, body string
		headers    []string
		status     int
	}{
		"If-Match weak": {"/v1/points/7/earn", "{}", []string{"If-Match", `W/"3"`}, 400},
		"If-Match list": {"/v1/points/7/earn", "{}", []string{"If-Match", `"3", "4"`}, 400},
		"two keys":      {"/v1/points/7/earn", "{}", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400},
		"large":         {"/v1/points/7/earn", strings.Repeat("x", 9<<20), nil, 413},
		"gzip":          {"/v1/points/7/earn", "{}", []string{"Content-Encoding", "gzip"}, 415},
		"panic":         {"/v1/points/panic/earn", "{}", nil, 500},
	} {
		if a := r.do(t, "POST", tt.path, tt.body, tt.headers...); a.status != tt.status || strings.Contains(string(a.body), "secret") {
			t.Errorf("%s: HTTP %d %s, want %d", name, a.status, a.body, tt.status)
		}
	}
}

package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// A session token is a position for the method that is called, over both protocols; answers have one for the next site. R14.
func TestSessionTokens(t *testing.T) {
	token := eventstore.Vector{{Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Seq: 7}, {Log: eventstore.LogID{Site: "sh", Incarnation: 3}, Seq: 9}}
	asked := ""
	var located eventstore.Vector
	fault := error(nil)
	r := start(t, server.Options{
		Locate: func(_ context.Context, v eventstore.Vector) (eventstore.Position, error) {
			located = v
			return eventstore.Position{Incarnation: 1, LSN: 42}, fault
		},
		Session: func(context.Context) (eventstore.Vector, error) { return token, nil },
	}, &fakes{
		order: func(ctx context.Context, _ *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			asked = strings.Join(md.Get("x-read-after"), "|")
			return &commerceapiv1.Order{Id: "A", Position: "1-50"}, nil
		},
		ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
			return &commerceapiv1.Receipt{Id: "A", Position: "1-51", Session: "shard-00@bj/1/8"}, nil
		},
	})
	r.Handle("GET /v1/after", func(_ context.Context, r *http.Request) (any, error) {
		return server.Positioned{Answer: r.Header.Get("X-Read-After"), Position: "1-50", Session: "shard-00@bj/1/8"}, nil
	})

	a := r.do(t, "GET", "/v1/orders/A", "", "X-Read-After", token.String())
	if a.status != 200 || asked != "1-42" || fmt.Sprint(located) != fmt.Sprint(token) || a.header.Get("X-Session") != token.String() {
		t.Errorf("HTTP %d %s: the method was asked for %q, located %v, headers %v", a.status, a.body, asked, located, a.header)
	}
	if r.do(t, "GET", "/v1/orders/A?read_after=shard-00@bj/1/7,%20shard-00@bj/1/9", ""); asked != "1-42" || len(located) != 1 || located[0].Seq != 9 {
		t.Errorf("as a parameter, two tokens: asked for %q, located %v", asked, located)
	}
	if r.do(t, "GET", "/v1/orders/A", "", "X-Read-After", "1-7"); asked != "1-7" {
		t.Errorf("a position: the method was asked for %q", asked)
	}
	if a := r.do(t, "GET", "/v1/after?read_after=shard-00@bj/1/7", ""); string(a.body) != "\"1-42\"\n" || a.header.Get("X-Session") != "shard-00@bj/1/8" {
		t.Errorf("a plain route: %s, headers %v", a.body, a.header)
	}
	if a := r.do(t, "POST", "/v1/orders/A/ship", "{}"); a.header.Get("X-Session") != "shard-00@bj/1/8" {
		t.Errorf("a receipt: headers %v", a.header)
	}
	few := token
	token = nil
	for life := range uint32(250) { // what a server gives it takes
		token = append(token, eventstore.Dot{Log: eventstore.LogID{Site: "shanghai", Incarnation: life + 1}, Seq: 1 << 30})
	}
	if a := r.do(t, "GET", "/v1/orders/A", "", "X-Read-After", token.String()); a.status != 200 || a.header.Get("X-Session") != token.String() || len(located) != len(token) {
		t.Errorf("a token of %d lives: HTTP %d %.200s, %d were located", len(token), a.status, a.body, len(located))
	}
	token = few
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-read-after", token.String())
	var header metadata.MD
	if _, err := commerceapiv1.NewQueryServiceClient(r.conn).GetOrder(ctx, &commerceapiv1.GetOrderRequest{Id: "A"}, grpcHeader(&header)); err != nil ||
		asked != "1-42" || strings.Join(header.Get("x-session"), "") != token.String() {
		t.Errorf("gRPC: %v, asked for %q, headers %v", err, asked, header)
	}

	for wrong, want := range map[string]string{
		"@":                         "does not name an event",
		"shard-00@bj/1":             "does not name an event",
		"shard-00@bj/1/7;x":         "does not name an event",
		strings.Repeat("a@b", 6000): "longer than 16384 bytes",
	} {
		if p := r.do(t, "GET", "/v1/orders/A", "", "X-Read-After", wrong).problem(t); p.Status != 400 || !strings.Contains(p.Detail, want) {
			t.Errorf("token %.20q: %+v", wrong, p)
		}
	}
	fault = &queries.NotHereError{Want: token[0], Held: 3}
	if a := r.do(t, "GET", "/v1/orders/A", "", "X-Read-After", token.String()); a.status != 504 || !strings.Contains(string(a.body), "up to event 3") || a.header.Get("Retry-After") == "" {
		t.Errorf("not there yet: %d %s", a.status, a.body)
	}
	fault = errors.New("x")
	if _, err := commerceapiv1.NewQueryServiceClient(r.conn).GetOrder(ctx, &commerceapiv1.GetOrderRequest{Id: "A"}); status.Code(err) != codes.Internal {
		t.Errorf("a fault of the site itself: %v", err)
	}
}

// A position that this site's log does not have cannot be waited for, whatever is asked: it is refused before the method is, over both
// protocols.
func TestPositionsThatTheLogDoesNotHave(t *testing.T) {
	asked := ""
	r := start(t, server.Options{
		Head: func(context.Context) (eventstore.Position, error) {
			return eventstore.Position{Incarnation: 2, LSN: 42}, nil
		},
	}, &fakes{order: func(ctx context.Context, _ *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
		asked = server.HeadersOf(ctx).Get("x-read-after")
		return &commerceapiv1.Order{Id: "A", Position: "2-42"}, nil
	}})
	r.Handle("GET /v1/after", func(_ context.Context, r *http.Request) (any, error) {
		return server.Positioned{Answer: r.Header.Get("X-Read-After"), Position: "2-42"}, nil
	})
	for position, want := range map[string]int{
		"2-1": 200, "2-42": 200, "2-0": 200, "2-43": 409, "2-99999999": 409, "1-7": 409, "3-1": 409, "0-1": 409, "soon": 400, "2": 400,
	} {
		for _, path := range []string{"/v1/orders/A", "/v1/after"} {
			asked = ""
			a := r.do(t, "GET", path, "", "X-Read-After", position)
			if a.status != want || want != 200 && (asked != "" || !strings.Contains(string(a.body), "X-Read-After")) {
				t.Errorf("%s after %s: %d %s, want %d; the method was asked for %q", path, position, a.status, a.body, want, asked)
			}
			if a := r.do(t, "GET", path+"?read_after="+position, ""); a.status != want {
				t.Errorf("%s?read_after=%s: %d %s, want %d", path, position, a.status, a.body, want)
			}
		}
		code := map[int]codes.Code{200: codes.OK, 400: codes.InvalidArgument, 409: codes.FailedPrecondition}[want]
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-read-after", position)
		if _, err := commerceapiv1.NewQueryServiceClient(r.conn).GetOrder(ctx, &commerceapiv1.GetOrderRequest{Id: "A"}); status.Code(err) != code {
			t.Errorf("gRPC after %s: %v, want %s", position, err, code)
		}
	}
}

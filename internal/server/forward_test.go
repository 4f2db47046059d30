package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// A call for a stream of another site is answered there, with what it came with, over both protocols; what that site refuses is
// told as it was said, and no call goes round in circles. R10.
func TestCallsAreSentHome(t *testing.T) {
	payment := eventstore.Stream("payment", "1")
	away := &eventstore.NotHomeError{Stream: payment, Cell: 7, Home: "shard-02@sh", Epoch: 3}
	var there func() (*commerceapiv1.Receipt, error)
	var key string
	home := start(t, server.Options{}, &fakes{ship: func(ctx context.Context, r *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		in, _ := metadata.FromIncomingContext(ctx)
		key = strings.Join(in.Get("idempotency-key"), "")
		if r.GetId() != "42" {
			t.Errorf("order %q was sent on, want 42", r.GetId())
		}
		return there()
	}})
	refusal := error(away)
	asked := 0
	site := start(t, server.Options{Forward: func(ctx context.Context, label, method string, request, answer proto.Message) error {
		if asked++; label != "shard-02@sh" {
			t.Errorf("sent to %q", label)
		}
		return home.conn.Invoke(ctx, method, request, answer)
	}}, &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		return nil, refusal
	}})

	there = func() (*commerceapiv1.Receipt, error) {
		return &commerceapiv1.Receipt{Stream: "order/42", Version: 3, Position: "1-9", Session: "shard-02@sh/1/9"}, nil
	}
	a := site.do(t, "POST", "/v1/orders/42/ship", "{}", "Idempotency-Key", "k-1")
	var receipt struct{ Position string }
	if err := json.Unmarshal(a.body, &receipt); err != nil || a.status != 200 || receipt.Position != "1-9" || key != "k-1" {
		t.Errorf("answer %d %s, key %q, %v", a.status, a.body, key, err)
	}
	if a.header.Get("X-Site") != "sh" || a.header.Get("X-Position") != "" || a.header.Get("X-Session") != "shard-02@sh/1/9" {
		t.Errorf("headers %v, want the site that has answered, its token, and no position of this one", a.header)
	}
	var header metadata.MD
	got, err := commerceapiv1.NewCommandServiceClient(site.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "42"}, grpc.Header(&header))
	if err != nil || got.GetVersion() != 3 || strings.Join(header.Get("x-site"), "") != "sh" {
		t.Errorf("over gRPC: %v, %v, header %v", got, err, header)
	}

	for _, test := range []struct {
		err    error
		status int
		says   string
	}{
		{commands.Reject("order.invalid_transition", "it is cancelled"), 409, "order.invalid_transition"},
		{&eventstore.ConflictError{Conflicts: []eventstore.StreamConflict{{Stream: payment, Want: eventstore.Exactly(2), Got: 5}}}, 409, `"got":5`},
		{fmt.Errorf("%w: two\n%w: faults", eventstore.ErrInvalid, eventstore.ErrInvalid), 400, `"faults":["two","faults"]`},
		{eventstore.ErrUnavailable, 503, "try again"},
		{away, 421, `"home":"shard-02@sh"`}, // two sites that take each other for the home
	} {
		there = func() (*commerceapiv1.Receipt, error) { return nil, test.err }
		before := asked
		a := site.do(t, "POST", "/v1/orders/42/ship", "{}")
		if a.status != test.status || !strings.Contains(string(a.body), test.says) || asked != before+1 {
			t.Errorf("%v: answer %d %s after %d calls, want %d with %s", test.err, a.status, a.body, asked-before, test.status, test.says)
		}
		if direct := home.do(t, "POST", "/v1/orders/42/ship", "{}"); string(direct.body) != string(a.body) || direct.header.Get("Retry-After") != a.header.Get("Retry-After") {
			t.Errorf("%v: sent on, it reads\n%s\nand asked there\n%s", test.err, a.body, direct.body)
		}
	}

	asked = 0
	refusal = &eventstore.NotHomeError{Stream: payment, Cell: 7, Home: "shard-02@sh", Epoch: 3, Moving: true}
	if p := site.do(t, "POST", "/v1/orders/42/ship", "{}").problem(t); p.Status != 503 || !strings.HasSuffix(p.Type, "/moving") || asked != 0 {
		t.Errorf("while its cell moves: %+v, sent on %d times", p, asked)
	}
	if !errors.Is(refusal, eventstore.ErrNotHome) {
		t.Error("a stream that moves is at home")
	}
}

package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

type lateError struct{}

func (lateError) Error() string { return "it stands at 1-4, not yet at 1-9" }
func (lateError) NotYet() bool  { return true }

type pendingError struct{ error }

func (pendingError) Answer() proto.Message {
	return &commerceapiv1.Receipt{Id: "A-1", Position: "1-7", Version: 3, Durability: "local"}
}
func (p pendingError) Unwrap() error { return p.error }

func conflict() error {
	return fmt.Errorf("append: %w", &eventstore.ConflictError{Conflicts: []eventstore.StreamConflict{
		{Stream: eventstore.Stream("order", "A-1"), Want: eventstore.Exactly(3), Got: 5},
	}})
}

// Every class of error says the same over both protocols.
func TestErrors(t *testing.T) {
	var fault error
	f := &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		return nil, fault
	}}
	r := start(t, server.Options{}, f)
	client := commerceapiv1.NewCommandServiceClient(r.conn)

	for name, tt := range map[string]struct {
		err     error
		ifMatch string
		kind    string
		reason  string // when it is not the kind
		status  int
		code    codes.Code
		detail  string
		retry   bool
	}{
		"invalid":             {err: fmt.Errorf("%w: id is empty", eventstore.ErrInvalid), kind: "invalid", status: 400, code: codes.InvalidArgument, detail: "id is empty"},
		"refused":             {err: commands.Reject("payment.declined", "no"), kind: "rejected", reason: "payment.declined", status: 422, code: codes.FailedPrecondition, detail: "no"},
		"refused, wrapped":    {err: fmt.Errorf("x: %w", commands.Reject("payment.declined", "no")), kind: "rejected", reason: "payment.declined", status: 422, code: codes.FailedPrecondition, detail: "no"},
		"refused, none":       {err: commands.Reject("order.not_found", "none"), kind: "rejected", reason: "order.not_found", status: 404, code: codes.NotFound, detail: "none"},
		"refused, there is":   {err: commands.Reject("order.exists", "there is"), kind: "rejected", reason: "order.exists", status: 409, code: codes.AlreadyExists, detail: "there is"},
		"refused, state":      {err: commands.Reject("order.invalid_transition", "shipped"), kind: "rejected", reason: "order.invalid_transition", status: 409, code: codes.FailedPrecondition, detail: "shipped"},
		"in conflict":         {err: &commands.ConflictedError{Stream: eventstore.Stream("deed", "1")}, kind: "in-conflict", status: 423, code: codes.FailedPrecondition, detail: "deed/1 is in conflict"},
		"conflict":            {err: conflict(), kind: "conflict", status: 409, code: codes.Aborted, detail: "want version 3, is at version 5"},
		"conflict, If-Match":  {err: conflict(), ifMatch: `"3"`, kind: "version", status: 412, code: codes.FailedPrecondition, detail: "want version 3, is at version 5"},
		"id reused":           {err: fmt.Errorf("append: %w", eventstore.ErrIDReused), kind: "id-reused", status: 422, code: codes.InvalidArgument},
		"too large":           {err: fmt.Errorf("%w: 9 MiB", eventstore.ErrTooLarge), kind: "too-large", status: 413, code: codes.ResourceExhausted, detail: "9 MiB"},
		"no such stream":      {err: eventstore.ErrNotFound, kind: "not-found", status: 404, code: codes.NotFound},
		"no such thing":       {err: fmt.Errorf("order \"x\": %w", queries.ErrNotFound), kind: "not-found", status: 404, code: codes.NotFound, detail: "order \"x\""},
		"other log":           {err: eventstore.ErrWrongIncarnation, kind: "wrong-position", status: 409, code: codes.FailedPrecondition},
		"unsupported":         {err: eventstore.ErrUnsupported, kind: "unsupported", status: 501, code: codes.Unimplemented},
		"read-only":           {err: eventstore.ErrReadOnly, kind: "read-only", status: 503, code: codes.Unavailable, retry: true},
		"store unavailable":   {err: eventstore.ErrUnavailable, kind: "unavailable", status: 503, code: codes.Unavailable, retry: true},
		"contended":           {err: fmt.Errorf("%w: 12 times", commands.ErrContended), kind: "unavailable", status: 503, code: codes.Unavailable, retry: true},
		"model unavailable":   {err: queries.ErrUnavailable, kind: "unavailable", status: 503, code: codes.Unavailable, retry: true},
		"two rebuilds":        {err: fmt.Errorf("rebuild shop-redis: %w", projections.ErrRebuildUnderWay), kind: "under-way", status: 409, code: codes.Aborted, detail: "a rebuild is under way"},
		"model stopped":       {err: projections.ErrStopped, kind: "unavailable", status: 503, code: codes.Unavailable, retry: true},
		"rebuilding":          {err: queries.ErrRebuilding, kind: "rebuilding", status: 503, code: codes.Unavailable, retry: true},
		"closed":              {err: eventstore.ErrClosed, kind: "closing", status: 503, code: codes.Unavailable, retry: true},
		"not yet":             {err: fmt.Errorf("order: %w", lateError{}), kind: "not-yet", status: 504, code: codes.DeadlineExceeded, detail: "1-4, not yet at 1-9", retry: true},
		"timeout":             {err: fmt.Errorf("append: %w", context.DeadlineExceeded), kind: "timeout", status: 504, code: codes.DeadlineExceeded, retry: true},
		"durability, no word": {err: eventstore.ErrDurabilityTimeout, kind: "durability-timeout", status: 504, code: codes.DeadlineExceeded, retry: true},
		"a method's own":      {err: status.Error(codes.OutOfRange, "beyond"), kind: "rpc", status: 400, code: codes.OutOfRange, detail: "beyond"},
	} {
		t.Run(name, func(t *testing.T) {
			fault = tt.err
			reason := tt.reason
			if reason == "" {
				reason = tt.kind
			}
			var headers []string
			ctx := t.Context()
			if tt.ifMatch != "" {
				headers = []string{"If-Match", tt.ifMatch}
				ctx = metadata.AppendToOutgoingContext(ctx, "if-match", tt.ifMatch)
			}
			a := r.do(t, "POST", "/v1/orders/A-1/ship", "", headers...)
			p := a.problem(t)
			if a.status != tt.status || p.Status != tt.status || !strings.HasSuffix(p.Type, "/problems/"+tt.kind) {
				t.Errorf("HTTP %d, problem %s %d, want %s %d", a.status, p.Type, p.Status, tt.kind, tt.status)
			}
			if p.Title == "" || !strings.Contains(p.Detail, tt.detail) || p.Instance != "/v1/orders/A-1/ship" {
				t.Errorf("title %q, detail %q (want %q), instance %q", p.Title, p.Detail, tt.detail, p.Instance)
			}
			if (a.header.Get("Retry-After") != "") != tt.retry {
				t.Errorf("Retry-After %q, want one: %v", a.header.Get("Retry-After"), tt.retry)
			}
			if tt.kind == "wrong-position" && (!strings.Contains(p.Hint, "from its start") || !strings.Contains(p.Hint, "X-Read-After")) {
				t.Errorf("hint %q; want what to do for who reads the log, and for who asks a query", p.Hint)
			}
			if tt.reason != p.Code {
				t.Errorf("code %q, want %q", p.Code, tt.reason)
			}

			_, err := client.ShipOrder(ctx, &commerceapiv1.ShipOrderRequest{Id: "A-1"})
			st := status.Convert(err)
			if st.Code() != tt.code || st.Message() != p.Detail {
				t.Errorf("gRPC %s %q, want %s and what HTTP says, %q", st.Code(), st.Message(), tt.code, p.Detail)
			}
			info := detail[*errdetails.ErrorInfo](st)
			if info == nil || info.GetReason() != reason || info.GetMetadata()["title"] != p.Title || info.GetMetadata()["hint"] != p.Hint {
				t.Errorf("error info %v, want reason %q, title %q, hint %q", info, reason, p.Title, p.Hint)
			}
			if (detail[*errdetails.RetryInfo](st) != nil) != tt.retry {
				t.Errorf("retry info %v, want one: %v", detail[*errdetails.RetryInfo](st), tt.retry)
			}
			if n := len(p.Conflicts); n > 0 {
				failed := detail[*errdetails.PreconditionFailure](st)
				if p.Conflicts[0] != (server.ProblemConflict{Stream: "default/order/A-1", Want: "version 3", Got: 5}) ||
					len(failed.GetViolations()) != n || failed.GetViolations()[0].GetSubject() != "default/order/A-1" {
					t.Errorf("conflicts %v over HTTP, %v over gRPC", p.Conflicts, failed)
				}
			}
		})
	}
}

func detail[D any](st *status.Status) (none D) {
	for _, d := range st.Details() {
		if d, ok := d.(D); ok {
			return d
		}
	}
	return none
}

func TestSeveralFaultsAreListed(t *testing.T) {
	f := &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		return nil, errors.Join(fmt.Errorf("%w: a is empty", eventstore.ErrInvalid), fmt.Errorf("%w: b is %w", eventstore.ErrInvalid, errors.New("odd")))
	}}
	r := start(t, server.Options{}, f)
	p := r.do(t, "POST", "/v1/orders/A-1/ship", "").problem(t)
	if want := "a is empty (and 1 more)"; p.Detail != want || fmt.Sprint(p.Faults) != "[a is empty b is odd]" {
		t.Errorf("detail %q, want %q; faults %q", p.Detail, want, p.Faults)
	}
	_, err := commerceapiv1.NewCommandServiceClient(r.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
	bad := detail[*errdetails.BadRequest](status.Convert(err))
	if len(bad.GetFieldViolations()) != 2 || bad.GetFieldViolations()[1].GetDescription() != "b is odd" {
		t.Errorf("details %v", bad)
	}
}

// A command that is recorded, but not yet as durable as asked, says both.
func TestPendingDurability(t *testing.T) {
	f := &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		return nil, pendingError{fmt.Errorf("append: %w", eventstore.ErrDurabilityTimeout)}
	}}
	r := start(t, server.Options{}, f)
	a := r.do(t, "POST", "/v1/orders/A-1/ship", "", "X-Durability", "kafka")
	if a.status != 202 || !strings.Contains(string(a.body), `"position":"1-7"`) || a.header.Get("X-Position") != "1-7" || a.header.Get("ETag") != `"3"` {
		t.Errorf("HTTP %d %s, headers %v", a.status, a.body, a.header)
	}
	_, err := commerceapiv1.NewCommandServiceClient(r.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
	st := status.Convert(err)
	if receipt := detail[*commerceapiv1.Receipt](st); st.Code() != codes.DeadlineExceeded || receipt.GetPosition() != "1-7" {
		t.Errorf("gRPC %v with %v", err, receipt)
	}
}

// What nobody foresaw, panics too, and damage tell clients nothing of the inside, and the log how to find it. Only what a scrub
// finds has the hint at it.
func TestInternalErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		fail func() error
		kind string
		code codes.Code
		hint string
	}{
		"error":         {func() error { return errors.New("secret of the inside") }, "internal", codes.Internal, ""},
		"panic":         {func() error { panic("secret of the inside") }, "internal", codes.Internal, ""},
		"corrupt":       {func() error { return fmt.Errorf("secret of the inside: %w", eventstore.ErrCorrupt) }, "damaged", codes.DataLoss, ""},
		"damaged files": {func() error { return fmt.Errorf("secret of the inside: %w", eventstore.ErrDamaged) }, "damaged", codes.DataLoss, "scrub --repair"},
		"corrupt, and so not to be had": {
			func() error {
				return fmt.Errorf("secret of the inside: %w: %w", eventstore.ErrUnavailable, eventstore.ErrDamaged)
			}, "damaged", codes.DataLoss, "scrub --repair",
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &recordedLog{}
			f := &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
				return nil, tt.fail()
			}}
			r := start(t, server.Options{Logger: log.logger()}, f)
			a := r.do(t, "POST", "/v1/orders/A-1/ship", "")
			p := a.problem(t)
			if a.status != 500 || strings.Contains(string(a.body), "secret") || p.Reference == "" || !strings.HasSuffix(p.Type, "/"+tt.kind) {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if (p.Hint != "") != (tt.hint != "") || !strings.Contains(p.Hint, tt.hint) {
				t.Errorf("hint %q, want %q", p.Hint, tt.hint)
			}
			if text := log.String(); !strings.Contains(text, "secret") || !strings.Contains(text, p.Reference) {
				t.Errorf("the log has no %q: %s", p.Reference, text)
			}
			_, err := commerceapiv1.NewCommandServiceClient(r.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
			if st := status.Convert(err); st.Code() != tt.code || strings.Contains(st.String(), "secret") {
				t.Errorf("gRPC %v", err)
			}
		})
	}
}

func TestRequestTimeout(t *testing.T) {
	f := &fakes{ship: func(ctx context.Context, _ *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	r := start(t, server.Options{RequestTimeout: 50 * time.Millisecond}, f)
	if a := r.do(t, "POST", "/v1/orders/A-1/ship", ""); a.status != 504 {
		t.Errorf("HTTP %d %s, want 504", a.status, a.body)
	}
	_, err := commerceapiv1.NewCommandServiceClient(r.conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("gRPC %v", err)
	}
}

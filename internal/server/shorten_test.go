package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// TestLongErrorsFitTheHeaders has methods fail with errors that quote long values or list many: a client that takes 8 KiB of
// headers gets their status and what is wrong, and over HTTP the same.
func TestLongErrorsFitTheHeaders(t *testing.T) {
	var fault error
	f := &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		return nil, fault
	}}
	r := start(t, server.Options{}, f)
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithMaxHeaderListSize(8<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{eventstore.ErrInvalid}, args...)...)
	}
	var faults []error
	conflict := &eventstore.ConflictError{Condition: &eventstore.ConditionConflict{Condition: eventstore.Condition{
		Query: eventstore.Query{{Tags: []string{strings.Repeat("t", 200), strings.Repeat("u", 200)}}},
	}}}
	for i := range 500 {
		faults = append(faults, invalid("line %d: its quantity is %q", i, strings.Repeat("x", 50)))
		conflict.Conflicts = append(conflict.Conflicts, eventstore.StreamConflict{Stream: eventstore.Stream("order", fmt.Sprintf("%0200d", i)), Got: 1})
	}
	for name, tt := range map[string]struct {
		err  error
		code codes.Code
		tell []string
	}{
		"a long value in quotes":      {invalid("tag %q must be of 1 to 64 bytes", strings.Repeat("a b", 2333)), codes.InvalidArgument, []string{`tag "a ba`, "of 1 to 64 bytes", "(6999 bytes)"}},
		"a value of many languages":   {invalid("tag %q must be of 1 to 64 bytes", strings.Repeat("ß界", 1400)), codes.InvalidArgument, []string{"of 1 to 64 bytes"}},
		"a value that has quotes":     {invalid("tag %q must be of 1 to 64 bytes", strings.Repeat(`say "x" `, 900)), codes.InvalidArgument, []string{`tag "say`, "of 1 to 64 bytes"}},
		"a long value without quotes": {invalid("stream %s is too long", strings.Repeat("s/", 3500)), codes.InvalidArgument, []string{"stream s/s/", "is too long"}},
		"a long text":                 {invalid("it is %swrong", strings.Repeat("very ", 2000)), codes.InvalidArgument, []string{"it is very", "very wrong"}},
		"many faults":                 {errors.Join(faults...), codes.InvalidArgument, []string{"line 0:", "and 499 more"}},
		"many conflicts":              {conflict, codes.Aborted, []string{"conflict: stream default/order/0"}},
		"a refusal with long facts": {&commands.Rejection{Code: "order.odd", Reason: strings.Repeat("r", 7000), Details: map[string]string{"name": strings.Repeat("n", 7000)}},
			codes.FailedPrecondition, []string{"rrr"}},
	} {
		t.Run(name, func(t *testing.T) {
			fault = tt.err
			_, err := commerceapiv1.NewCommandServiceClient(conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
			st := status.Convert(err)
			if st.Code() != tt.code || detail[*errdetails.ErrorInfo](st) == nil {
				t.Errorf("the status is %s with %d details: %.300s", st.Code(), len(st.Details()), st.Message())
			}
			p := r.do(t, "POST", "/v1/orders/A-1/ship", "").problem(t)
			if p.Detail != st.Message() || len(p.Detail) > 1000 || !utf8.ValidString(p.Detail) {
				t.Errorf("over HTTP it is told in %d bytes: %.300s", len(p.Detail), p.Detail)
			}
			for _, want := range tt.tell {
				if !strings.Contains(p.Detail, want) {
					t.Errorf("%q is not told by %s", want, p.Detail)
				}
			}
			if truncated := detail[*errdetails.ErrorInfo](st).GetMetadata()["truncated"] != ""; truncated != (name == "many conflicts") {
				t.Errorf("that something is left out is told: %v", truncated)
			}
			if name == "many conflicts" {
				c := detail[*storev1.Conflict](st)
				if len(p.Conflicts) != 500 || len(c.GetStreams()) == 0 || c.GetCondition() == nil || !c.GetTruncated() {
					t.Errorf("%d conflicts over HTTP, %v over gRPC", len(p.Conflicts), c)
				}
			}
		})
	}
}

// largeReceiptError comes with the receipt of a request to hundreds of streams.
type largeReceiptError struct{ error }

func (largeReceiptError) Answer() proto.Message {
	m := &storev1.Receipt{RequestId: "a"}
	for i := range 500 {
		m.Streams = append(m.Streams, &storev1.StreamReceipt{Category: "thing", Id: fmt.Sprintf("%0200d", i), First: 1, Last: 1})
	}
	return m
}

func (e largeReceiptError) Unwrap() error { return e.error }

// What does not fit the headers at all is left out, and the status says so: a receipt, or the one conflict with a condition.
func TestDetailsThatDoNotFitAreLeftOut(t *testing.T) {
	var fault error
	f := &fakes{ship: func(context.Context, *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
		return nil, fault
	}}
	r := start(t, server.Options{}, f)
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithMaxHeaderListSize(8<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query := eventstore.Query{}
	for range 32 {
		query = append(query, eventstore.QueryItem{Tags: []string{strings.Repeat("t", 200)}})
	}
	for want, err := range map[string]error{
		"durability-timeout": largeReceiptError{eventstore.ErrDurabilityTimeout},
		"conflict":           &eventstore.ConflictError{Condition: &eventstore.ConditionConflict{Condition: eventstore.Condition{Query: query}}},
	} {
		fault = err
		_, err := commerceapiv1.NewCommandServiceClient(conn).ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
		st := status.Convert(err)
		info := detail[*errdetails.ErrorInfo](st)
		if info.GetReason() != want || info.GetMetadata()["truncated"] != "true" || detail[*storev1.Receipt](st) != nil {
			t.Errorf("%s: %v with %v", want, err, info)
		}
		if c := detail[*storev1.Conflict](st); (c != nil) != (want == "conflict") || c.GetTruncated() != (c != nil) || c.GetCondition() != nil {
			t.Errorf("%s: conflict %v", want, c)
		}
	}
}

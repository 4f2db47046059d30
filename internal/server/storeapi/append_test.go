package storeapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// A conflict says every expectation that failed and what the condition met, as a typed detail over gRPC and as JSON over
// HTTP. Invariant A1.
func TestConflictIsTyped(t *testing.T) {
	r := start(t)
	tagged := to("1", 2)
	tagged.Events[1].Tags = []string{"k:1"}
	r.mustAppend(t, request(tagged))
	none := to("1", 1)
	none.Expect = &storev1.StreamAppend_NoStream{NoStream: true}
	exists := to("2", 1)
	exists.Expect = &storev1.StreamAppend_Exists{Exists: true}
	m := request(none, exists, at("3", 7, 1))
	m.Condition = &storev1.Condition{Query: []*storev1.QueryItem{{Types: []string{"thing.happened.v1"}, Tags: []string{"k:1"}}}, After: "1-1"}

	_, err := r.Append(t.Context(), m)
	if status.Code(err) != codes.Aborted || detail[*errdetails.ErrorInfo](t, err).GetReason() != "conflict" {
		t.Fatalf("%v, want ABORTED with the reason conflict", err)
	}
	want := &storev1.Conflict{
		Streams: []*storev1.StreamConflict{
			{Tenant: "default", Category: "thing", Id: "1", Expect: &storev1.StreamConflict_NoStream{NoStream: true}, Got: 2},
			{Tenant: "default", Category: "thing", Id: "2", Expect: &storev1.StreamConflict_Exists{Exists: true}},
			{Tenant: "default", Category: "thing", Id: "3", Expect: &storev1.StreamConflict_Version{Version: 7}},
		},
		Condition: &storev1.ConditionConflict{Query: m.GetCondition().GetQuery(), After: "1-1", Found: "1-2"},
	}
	if diff := cmp.Diff(want, detail[*storev1.Conflict](t, err), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}

	code, body := r.post(t, "/v1/store/append", `{"appends":[
		{"category":"thing","id":"1","no_stream":true,"events":[{"type":"thing.happened.v1","payload_json":"{}"}]},
		{"category":"thing","id":"3","version":7,"events":[{"type":"thing.happened.v1","payload":"aGk="}]}],
		"condition":{"query":[{"types":["thing.happened.v1"],"tags":["k:1"]}],"after":"1-1"}}`)
	var p server.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || code != 409 {
		t.Fatalf("%d %s (%v), want a problem 409", code, body, err)
	}
	wantStreams := []server.ProblemConflict{{Stream: "default/thing/1", Want: "no stream", Got: 2}, {Stream: "default/thing/3", Want: "version 7"}}
	wantCondition := &server.ProblemCondition{
		Query: []server.ProblemQueryItem{{Types: []string{"thing.happened.v1"}, Tags: []string{"k:1"}}}, After: "1-1", Found: "1-2",
	}
	if diff := cmp.Diff(wantStreams, p.Conflicts) + cmp.Diff(wantCondition, p.Condition); diff != "" {
		t.Error(diff)
	}
}

// What belongs to the server's own aggregates, sagas and projections cannot be appended to, whatever else the request holds.
func TestKept(t *testing.T) {
	r := start(t)
	in := func(category string) *storev1.AppendRequest {
		a := to("1", 1)
		a.Category = category
		return request(to("other", 1), a)
	}
	typed, kinded, tenant, saga := in("thing"), in("thing"), request(to("1", 1)), request(to("1", 1))
	typed.Appends[1].Events[0].Type = "order.created.v1"
	kinded.Appends[1].Events[0].Kind = "system"
	tenant.Tenant = "$own"
	saga.RequestId = "saga/x"
	for name, tt := range map[string]struct {
		m    *storev1.AppendRequest
		code codes.Code
	}{
		"an aggregate's category": {in("order"), codes.PermissionDenied},
		"a system category":       {in("$receipt"), codes.PermissionDenied},
		"another one":             {in("$mine"), codes.PermissionDenied},
		"an aggregate's type":     {typed, codes.PermissionDenied},
		"a system event":          {kinded, codes.PermissionDenied},
		"a system tenant":         {tenant, codes.PermissionDenied},
		"a saga's request id":     {saga, codes.InvalidArgument},
	} {
		if _, err := r.Append(t.Context(), tt.m); status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %v", name, err, tt.code)
		}
	}
	state, err := r.GetLog(t.Context(), &storev1.GetLogRequest{})
	if err != nil || state.GetDurable() != "1-0" {
		t.Errorf("the log is at %s (%v), want nothing in it", state.GetDurable(), err)
	}
}

// The call's metadata fills what the request leaves out, over both protocols, and what the request says counts.
func TestMetadataFillsARequest(t *testing.T) {
	r := start(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "acme", "idempotency-key", "k-1", "x-correlation-id", "c-1",
		"x-causation-id", "d-1", "if-match", `"0"`)
	m := request(to("1", 1))
	m.Metadata = &storev1.Metadata{CausationId: "own", Actor: "a-1"}
	receipt, err := r.Append(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.GetRequestId() != "k-1" || receipt.GetDurability() != "local" {
		t.Errorf("receipt %v", receipt)
	}
	stored := eventstore.StreamID{Tenant: "acme", Category: "thing", ID: "1"}
	for e, err := range r.store.Read(ctx, stored, 1) {
		if want := (eventstore.Metadata{Causation: "own", Correlation: "c-1", Actor: "a-1"}); err != nil || e.Metadata != want || e.CommandID != "k-1" {
			t.Errorf("recorded %+v (%v), want %+v", e.Metadata, err, want)
		}
	}
	// The key again: the receipt of the first time. If-Match of another version: a failed precondition.
	again, err := r.Append(metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "acme", "idempotency-key", "k-1", "if-match", `"0"`), m)
	if err != nil || !again.GetDuplicate() || again.GetPosition() != receipt.GetPosition() {
		t.Errorf("again: %v (%v)", again, err)
	}
	code, body := r.post(t, "/v1/store/append", `{"tenant":"acme","appends":[{"category":"thing","id":"1","events":[{"type":"a.v1"}]}]}`, "If-Match", `"7"`)
	if code != 412 {
		t.Errorf("If-Match of another version: %d %s", code, body)
	}
	code, body = r.post(t, "/v1/store/append", `{"appends":[{"category":"thing","id":"1","version":"3","events":[{"type":"a.v1"}]}]}`, "If-Match", `"7"`)
	if code != 400 || !strings.Contains(body, "If-Match") {
		t.Errorf("two expectations: %d %s", code, body)
	}
	got, err := r.GetReceipt(metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "acme"), &storev1.GetReceiptRequest{RequestId: "k-1"})
	if err != nil || got.GetReceipt().GetStreams()[0].GetLast() != 1 || len(got.GetRequestHash()) != 32 {
		t.Errorf("GetReceipt: %v (%v)", got, err)
	}
	if _, err := r.GetReceipt(t.Context(), &storev1.GetReceiptRequest{RequestId: "k-1"}); status.Code(err) != codes.NotFound {
		t.Errorf("GetReceipt of another tenant: %v", err)
	}
	version, err := r.GetVersion(ctx, &storev1.GetVersionRequest{Category: "thing", Id: "1"})
	if err != nil || version.GetVersion() != 1 {
		t.Errorf("GetVersion: %v (%v)", version, err)
	}
}

package storeapi_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// A context names what is here: an append that claims to know more is refused and leaves nothing, in calls and in sessions.
func TestContextsNameWhatIsHere(t *testing.T) {
	ctx := t.Context()
	far, near := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "sh", Incarnation: 1}}), memstore.New(memstore.Options{})
	if _, err := far.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("thing", "1"), Events: []eventstore.Event{{Type: "thing.happened.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	for e, err := range far.ReadLog(ctx, eventstore.LogID{Site: "sh", Incarnation: 1}, 0) {
		if err == nil {
			_, err = near.Receive(ctx, []eventstore.Recorded{e})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	r := startWith(t, near, func(s *storeapi.Service) { s.Heads = near.Heads })
	r.mustAppend(t, request(to("2", 1)))
	session := open(t, r)
	number := uint64(0)
	for name, tt := range map[string]struct {
		known *storev1.Known
		code  codes.Code
		says  string
	}{
		"held, of the log itself":   {&storev1.Known{Site: "local", Incarnation: 1, Seq: 1}, codes.OK, ""},
		"held, of another site":     {&storev1.Known{Site: "sh", Incarnation: 1, Seq: 1}, codes.OK, ""},
		"a site that is not known":  {&storev1.Known{Site: "mars", Incarnation: 1, Seq: 1}, codes.InvalidArgument, "shard-00@mars/1"},
		"a life that is not known":  {&storev1.Known{Site: "sh", Incarnation: 2, Seq: 1}, codes.InvalidArgument, "shard-00@sh/2"},
		"a shard that is not known": {&storev1.Known{Site: "sh", Incarnation: 1, Shard: 7, Seq: 1}, codes.InvalidArgument, "shard-07@sh/1"},
		"no site":                   {&storev1.Known{Seq: 1}, codes.InvalidArgument, "shard-00@local/1, shard-00@sh/1"},
		"beyond the log's end":      {&storev1.Known{Site: "local", Incarnation: 1, Seq: 99}, codes.InvalidArgument, "seq 99"},
		"not here yet":              {&storev1.Known{Site: "sh", Incarnation: 1, Seq: 2}, codes.Unavailable, "is here up to 1"},
	} {
		a := to("3", 1)
		a.Context = []*storev1.Known{tt.known}
		_, err := r.Append(ctx, request(a))
		if status.Code(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s with %q", name, err, tt.code, tt.says)
		}
		number++
		if err := session.Send(&storev1.AppendSessionRequest{Appends: []*storev1.SessionAppend{{Number: number, Request: request(a)}}}); err != nil {
			t.Fatal(err)
		}
		got := answers(t, session, 1)[number]
		if (got.GetReceipt() != nil) != (tt.code == codes.OK) || !strings.Contains(got.GetFailure().GetDetail(), tt.says) {
			t.Errorf("%s, in a session: %v, want %s with %q", name, got, tt.code, tt.says)
		}
	}
	code, body := r.post(t, "/v1/store/append", `{"appends":[{"category":"thing","id":"3","context":[{"site":"mars","incarnation":1,"seq":"1"}],"events":[{"type":"a.v1"}]}]}`)
	if code != 400 || !strings.Contains(body, "shard-00@mars/1") || !strings.Contains(body, "shard-00@local/1") {
		t.Errorf("over HTTP: %d %s", code, body)
	}
	if version, err := near.Version(ctx, eventstore.Stream("thing", "3")); err != nil || version != 4 {
		t.Errorf("%d events are recorded (%v), want the four that were acknowledged", version, err)
	}
}

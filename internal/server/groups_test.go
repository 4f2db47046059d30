package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// consumerStream is a member of a group over gRPC.
type consumerStream struct {
	tb     testing.TB
	stream storev1.ConsumerGroups_ConsumeClient
	leave  context.CancelFunc
}

func consume(tb testing.TB, r *rig, group, member string, credits uint32) *consumerStream {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	tb.Cleanup(cancel)
	stream, err := storev1.NewConsumerGroupsClient(r.conn).Consume(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	c := &consumerStream{tb, stream, cancel}
	c.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Join{Join: &storev1.ConsumeJoin{Group: group, Member: member}}})
	if joined := c.hear().GetJoined(); joined.GetMember() != member {
		tb.Fatalf("joined as %q", joined.GetMember())
	}
	c.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Credits{Credits: credits}})
	return c
}

func (c *consumerStream) say(m *storev1.ConsumeRequest) {
	c.tb.Helper()
	if err := c.stream.Send(m); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *consumerStream) hear() *storev1.ConsumeResponse {
	c.tb.Helper()
	m, err := c.stream.Recv()
	if err != nil {
		c.tb.Fatal(err)
	}
	return m
}

// event returns the next delivery.
func (c *consumerStream) event() *storev1.GroupDelivery {
	c.tb.Helper()
	m := c.hear()
	if m.GetDelivery() == nil {
		c.tb.Fatalf("%v, want a delivery", m)
	}
	return m.GetDelivery()
}

func (c *consumerStream) ack(ids ...uint64) {
	c.tb.Helper()
	c.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Ack{Ack: &storev1.ConsumeAck{Ids: ids}}})
}

func (c *consumerStream) nack(n *storev1.ConsumeNack) {
	c.tb.Helper()
	c.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Nack{Nack: n}})
}

func (c *consumerStream) flush() {
	c.tb.Helper()
	c.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Flush{Flush: &storev1.ConsumeFlush{}}})
	if m := c.hear(); m.GetSettled() == nil {
		c.tb.Fatalf("%v, want settled", m)
	}
}

// TestConsume takes a group from its making over HTTP through members that come, break off, are replaced and park, to its
// deletion.
func TestConsume(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 4)
	post := func(path, body string, want int) string {
		t.Helper()
		a := r.do(t, http.MethodPost, path, body, "Content-Type", "application/json")
		if a.status != want {
			t.Fatalf("POST %s %s: HTTP %d %s, want %d", path, body, a.status, a.body, want)
		}
		return string(a.body)
	}
	post("/v1/groups", `{"name":"g","settings":{"categories":["thing"],"max_tries":3,"lease_ms":60000}}`, 201)
	post("/v1/groups", `{"name":"g","settings":{"categories":["thing"],"max_tries":3,"lease_ms":60000}}`, 201)
	post("/v1/groups", `{"name":"g"}`, 409)
	post("/v1/groups", `{"name":"G"}`, 400)

	a := consume(t, r, "g", "a", 2)
	if d := a.event(); d.GetEvent().GetVersion() != 1 || d.GetTries() != 1 || string(d.GetEvent().GetPayload()) != `{"a":1}` {
		t.Fatalf("first delivery: %v", d)
	} else {
		a.ack(d.GetId())
	}
	second := a.event()
	a.flush()
	a.leave() // breaks off in the middle of the second event

	b := consume(t, r, "g", "b", 10)
	if d := b.event(); d.GetEvent().GetVersion() != 2 || d.GetTries() != 2 {
		t.Fatalf("after %v was lost: %v", second, d)
	}
	again := consume(t, r, "g", "b", 10)
	if _, err := b.stream.Recv(); status.Code(err) != codes.Aborted {
		t.Fatalf("a member whose name another took: %v", err)
	}
	d := again.event()
	if d.GetEvent().GetVersion() != 2 || d.GetTries() != 3 {
		t.Fatalf("after b was replaced: %v", d)
	}
	again.nack(&storev1.ConsumeNack{Id: d.GetId(), Reason: "no good"}) // its last try
	soon(t, "the event is parked", func() bool { return strings.Contains(get(t, r, "/v1/groups/g"), `"parked":"1"`) })
	if parked := get(t, r, "/v1/groups/g/parked"); !strings.Contains(parked, `"reason":"no good"`) || !strings.Contains(parked, `"behind":"2"`) {
		t.Errorf("parked: %s", parked)
	}
	if got := post("/v1/groups/g/parked/retry", `{}`, 200); !strings.Contains(got, `"retried":"1"`) {
		t.Errorf("retry: %s", got)
	}
	d = again.event()
	again.nack(&storev1.ConsumeNack{Id: d.GetId(), Park: true, Reason: "no"})
	soon(t, "the event is parked again", func() bool { return strings.Contains(get(t, r, "/v1/groups/g/parked"), `"reason":"no"`) })
	var parked struct{ Parked []struct{ Position string } }
	if err := json.Unmarshal([]byte(get(t, r, "/v1/groups/g/parked")), &parked); err != nil || len(parked.Parked) != 1 {
		t.Fatalf("%+v, %v", parked, err)
	}
	post("/v1/groups/g/parked/skip", fmt.Sprintf(`{"position":%q}`, parked.Parked[0].Position), 200)
	for _, want := range []uint64{3, 4} {
		d := again.event()
		if d.GetEvent().GetVersion() != want {
			t.Fatalf("after the skip: %v, want version %d", d, want)
		}
		again.ack(d.GetId())
	}
	again.flush()
	soon(t, "the group looked for more of the stream and has nothing parked", func() bool {
		info := get(t, r, "/v1/groups")
		return strings.Contains(info, `"parked":"0"`) && strings.Contains(info, `"in_flight":"0"`)
	})
	if got := post("/v1/groups/g/reset", `{"to":"1-2","actor":"desk/7"}`, 200); !strings.Contains(got, `"cursor":"1-2"`) {
		t.Errorf("reset: %s", got)
	}
	if d := again.event(); d.GetEvent().GetVersion() != 3 {
		t.Errorf("after the reset: %v", d)
	}
	if a := r.do(t, http.MethodDelete, "/v1/groups/g?actor=desk/8", ""); a.status != http.StatusOK {
		t.Errorf("delete: HTTP %d %s", a.status, a.body)
	}
	if _, err := again.stream.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("a member of a group that was deleted: %v", err)
	}
	if a := r.do(t, http.MethodGet, "/v1/groups/g", ""); a.status != http.StatusNotFound {
		t.Errorf("a group that was deleted: HTTP %d", a.status)
	}
	said := map[string]string{}
	for e, err := range r.store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Categories: []string{"$group"}}) {
		if err != nil {
			t.Fatal(err)
		}
		said[e.Type] = e.Actor
	}
	if said["group.reset.v1"] != "desk/7" || said["group.deleted.v1"] != "desk/8" {
		t.Errorf("the log says of who did what: %v", said)
	}
}

// TestConsumeKeepsToCredits sends no more than the client has asked for, and refuses what makes no sense.
func TestConsumeKeepsToCredits(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 3)
	client := storev1.NewConsumerGroupsClient(r.conn)
	if _, err := client.CreateGroup(t.Context(), &storev1.CreateGroupRequest{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	c := consume(t, r, "g", "a", 1)
	d := c.event()
	c.ack(d.GetId())
	c.flush() // comes before any other event, for there is no credit left
	c.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Credits{Credits: 1}})
	if d := c.event(); d.GetEvent().GetVersion() != 2 {
		t.Errorf("after another credit: %v", d)
	}
	c.ack(4711)
	if _, err := c.stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an ack of what was never delivered: %v", err)
	}
	for name, first := range map[string]*storev1.ConsumeRequest{
		"no join":  {Kind: &storev1.ConsumeRequest_Touch{Touch: &storev1.ConsumeTouch{}}},
		"no group": {Kind: &storev1.ConsumeRequest_Join{Join: &storev1.ConsumeJoin{Group: "none", Member: "a"}}},
		"capacity": {Kind: &storev1.ConsumeRequest_Join{Join: &storev1.ConsumeJoin{Group: "g", Member: "a", Capacity: 1 << 20}}},
	} {
		stream, err := client.Consume(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(first); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument && status.Code(err) != codes.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A client that has nothing more to say leaves, and what it had is tried by others as if it never had it.
	c = consume(t, r, "g", "b", 1)
	if d := c.event(); d.GetEvent().GetVersion() != 2 {
		t.Fatalf("%v, want version 2", d)
	}
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	soon(t, "b has left", func() bool { return !strings.Contains(get(t, r, "/v1/groups/g"), `"name":"b"`) })
}

func get(tb testing.TB, r *rig, path string) string {
	tb.Helper()
	a := r.do(tb, http.MethodGet, path, "")
	if a.status != http.StatusOK {
		tb.Fatalf("GET %s: HTTP %d %s", path, a.status, a.body)
	}
	return string(a.body)
}

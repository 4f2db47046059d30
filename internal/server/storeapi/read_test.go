package storeapi_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// receiver is a stream of answers with events.
type receiver interface {
	Recv() (*storev1.ReadResponse, error)
}

// read reads to the end and returns the events' positions, with how many messages there were.
func read(t *testing.T, r receiver, err error) (positions []string, messages int) {
	t.Helper()
	for ; err == nil; messages++ {
		var m *storev1.ReadResponse
		if m, err = r.Recv(); err != nil {
			break
		}
		for _, e := range m.GetEvents() {
			positions = append(positions, e.GetPosition())
		}
		events, err := wire.DecodeFrames(nil, m.GetFrames())
		if err != nil {
			t.Fatal(err)
		}
		for i := range events {
			positions = append(positions, events[i].Position.String())
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return positions, messages
}

func places(first, last int) (out []string) {
	step := 1
	if last < first {
		step = -1
	}
	for n := first; n != last+step; n += step {
		out = append(out, fmt.Sprintf("1-%d", n))
	}
	return out
}

// Both forms give the same events, whatever is asked for, and large answers come in several messages.
func TestReads(t *testing.T) {
	r := start(t)
	big := to("1", 8)
	for _, e := range big.GetEvents() {
		e.PayloadJson = fmt.Sprintf(`{"a":%q}`, strings.Repeat("x", 100<<10))
	}
	r.mustAppend(t, request(big))
	tagged := to("2", 1)
	tagged.Events[0].Tags = []string{"k:1"}
	r.mustAppend(t, request(tagged))
	ctx := t.Context()
	for _, frames := range []bool{false, true} {
		for name, tt := range map[string]struct {
			m    *storev1.ReadAllRequest
			want []string
		}{
			"all":            {&storev1.ReadAllRequest{}, places(1, 9)},
			"after":          {&storev1.ReadAllRequest{After: "1-7"}, places(8, 9)},
			"limit":          {&storev1.ReadAllRequest{Limit: 3}, places(1, 3)},
			"backwards":      {&storev1.ReadAllRequest{Backwards: true}, places(9, 1)},
			"before":         {&storev1.ReadAllRequest{Backwards: true, Before: "1-4", Limit: 2}, places(3, 2)},
			"until":          {&storev1.ReadAllRequest{Until: "1-3"}, places(1, 3)},
			"before a time":  {&storev1.ReadAllRequest{Until: "2020-01-01T00:00:00Z"}, nil},
			"until the end":  {&storev1.ReadAllRequest{Until: "2120-01-01T00:00:00Z", After: "1-8"}, places(9, 9)},
			"a tag":          {&storev1.ReadAllRequest{Query: []*storev1.QueryItem{{Tags: []string{"k:1"}}}}, places(9, 9)},
			"another tenant": {&storev1.ReadAllRequest{Tenant: "acme"}, nil},
			"a category":     {&storev1.ReadAllRequest{Categories: []string{"thing"}, Types: []string{"other.v1", "thing.happened.v1"}, After: "1-8"}, places(9, 9)},
		} {
			tt.m.Frames = frames
			s, err := r.ReadAll(ctx, tt.m)
			got, messages := read(t, s, err)
			if !slices.Equal(got, tt.want) {
				t.Errorf("frames %v, %s: %v, want %v", frames, name, got, tt.want)
			}
			if name == "all" && messages < 4 {
				t.Errorf("800 KB came in %d messages", messages)
			}
		}
		for name, tt := range map[string]struct {
			m    *storev1.ReadStreamRequest
			want []string
		}{
			"stream":    {&storev1.ReadStreamRequest{FromVersion: 6}, places(6, 8)},
			"backwards": {&storev1.ReadStreamRequest{Backwards: true, Limit: 2}, places(8, 7)},
			"none":      {&storev1.ReadStreamRequest{FromVersion: 9}, nil},
			"until":     {&storev1.ReadStreamRequest{FromVersion: 2, Until: "1-4"}, places(2, 4)},
			"and less":  {&storev1.ReadStreamRequest{Limit: 2, Until: "1-4"}, places(1, 2)},
			"and back":  {&storev1.ReadStreamRequest{Backwards: true, Until: "1-4"}, places(4, 1)},
			"further":   {&storev1.ReadStreamRequest{Backwards: true, FromVersion: 2, Until: "1-4"}, places(2, 1)},
			"too late":  {&storev1.ReadStreamRequest{FromVersion: 5, Until: "1-4"}, nil},
		} {
			tt.m.Frames, tt.m.Category, tt.m.Id = frames, "thing", "1"
			s, err := r.ReadStream(ctx, tt.m)
			if got, _ := read(t, s, err); !slices.Equal(got, tt.want) {
				t.Errorf("frames %v, %s: %v, want %v", frames, name, got, tt.want)
			}
		}
	}
	code, body := r.post(t, "/v1/store/read", `{"query":[{"tags":["k:1"]}]}`)
	if code != 200 || !strings.Contains(body, `"position":"1-9"`) || strings.Contains(body, `"position":"1-8"`) {
		t.Errorf("over HTTP: %d %s", code, body)
	}
}

// A read that cannot be done says why, in a way that programs can tell.
func TestWrongReads(t *testing.T) {
	r := start(t)
	r.mustAppend(t, request(to("1", 1)))
	for reason, m := range map[string]*storev1.ReadAllRequest{
		"wrong-position": {After: "2-1"},
		"invalid":        {After: "1-1", Backwards: true},
		"too-large":      {Types: make([]string, 257)},
		"unsupported":    {Backwards: true, Frames: true, Chain: true},
	} {
		s, err := r.ReadAll(t.Context(), m)
		if err == nil {
			_, err = s.Recv()
		}
		if got := detail[*errdetails.ErrorInfo](t, err).GetReason(); got != reason {
			t.Errorf("reason %q of %v, want %q", got, err, reason)
		}
	}
	for name, m := range map[string]*storev1.ReadAllRequest{
		`category "Thing"`: {Categories: []string{"thing", "Thing"}}, "category is empty": {Categories: []string{""}},
		"event type is empty": {Types: []string{""}}, "event type has 999 bytes": {Types: []string{strings.Repeat("x", 999)}},
		`tenant "a b"`: {Tenant: "a b"}, `tag ""`: {Query: []*storev1.QueryItem{{Tags: []string{""}}}},
	} {
		s, err := r.ReadAll(t.Context(), m)
		if err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("names that no event can have, %v: %v; want it refused, with %q", m, err, name)
		}
	}
	nothing, err := r.ReadAll(t.Context(), &storev1.ReadAllRequest{Tenant: "acme", Categories: []string{"unheard.of"}, Types: []string{"Any text, really"}})
	if positions, _ := read(t, nothing, err); len(positions) > 0 {
		t.Errorf("names that no event has: %v", positions)
	}
	if _, err := r.GetVersion(t.Context(), &storev1.GetVersionRequest{Category: "Thing", Id: "1"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("version of a stream that cannot be: %v", err)
	}
	s, err := r.Subscribe(t.Context(), &storev1.SubscribeRequest{FromEnd: true, After: "1-1"})
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("from_end and after: %v", err)
	}
}

// A subscription says when it is up to date, goes on live, splits what is too large for one message, says that it lives
// when nothing comes, and ends with UNAVAILABLE and a hint when the server stops.
func TestSubscription(t *testing.T) {
	r := start(t)
	big := to("1", 8)
	for _, e := range big.GetEvents() {
		e.PayloadJson = fmt.Sprintf(`{"a":%q}`, strings.Repeat("x", 100<<10))
	}
	r.mustAppend(t, request(big))
	s, err := r.Subscribe(t.Context(), &storev1.SubscribeRequest{HeartbeatSeconds: 1})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *storev1.SubscribeResponse {
		t.Helper()
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	events, parts := 0, 0
	for m := next(); ; m = next() {
		events += len(m.GetEvents())
		if parts++; !m.GetContinues() {
			if m.GetPosition() != "1-8" || !m.GetCaughtUp() || m.GetSeq() != 8 {
				t.Errorf("the chunk ends at %s, caught up %v", m.GetPosition(), m.GetCaughtUp())
			}
			break
		}
		if m.GetPosition() != "" {
			t.Errorf("a message in the middle of a chunk has position %s", m.GetPosition())
		}
	}
	if events != 8 || parts < 4 {
		t.Errorf("%d events in %d messages, want 8 in several", events, parts)
	}
	if m := next(); !m.GetHeartbeat() || m.GetPosition() != "1-8" || len(m.GetEvents()) > 0 {
		t.Errorf("%v, want a heartbeat", m)
	}
	r.mustAppend(t, request(to("2", 1)))
	if m := next(); m.GetEvents()[0].GetStreamId() != "2" || m.GetHeartbeat() || !m.GetCaughtUp() {
		t.Errorf("%v, want the new event", m)
	}
	// What the filter holds back moves the position all the same.
	f, err := r.Subscribe(t.Context(), &storev1.SubscribeRequest{FromEnd: true, Categories: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := f.Recv(); err != nil || m.GetPosition() != "1-9" || !m.GetCaughtUp() {
		t.Errorf("at the start: %v (%v)", m, err)
	}
	r.mustAppend(t, request(to("2", 1)))
	if m, err := f.Recv(); err != nil || m.GetPosition() != "1-10" || len(m.GetEvents()) > 0 {
		t.Errorf("after an event of others: %v (%v)", m, err)
	}
	next()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	if status.Code(err) != codes.Unavailable || detail[*errdetails.ErrorInfo](t, err).GetMetadata()["hint"] == "" {
		t.Errorf("the server stops: %v, want UNAVAILABLE with a hint", err)
	}
}

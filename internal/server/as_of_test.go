package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// TestReadAsOf reads a stream and the log as they were: at each position and at a time, over both protocols.
func TestReadAsOf(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 3)
	var then time.Time
	for e, err := range r.store.Read(t.Context(), eventstore.Stream("thing", "1"), 3) {
		if err != nil {
			t.Fatal(err)
		}
		then = e.Time()
	}
	soon(t, "the clock goes on", func() bool { return time.Now().UnixMilli() > then.UnixMilli()+1 })
	r.fill(t, 2)

	page := func(query string) (versions []string, version, asOf string) {
		a := r.do(t, http.MethodGet, "/v1/streams/thing/1?"+query, "")
		var got struct {
			Events  []struct{ Version string }
			Version string
			AsOf    string `json:"as_of"`
		}
		if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
			t.Fatalf("HTTP %d: %s, %v", a.status, a.body, err)
		}
		for _, e := range got.Events {
			versions = append(versions, e.Version)
		}
		return versions, got.Version, got.AsOf
	}
	at := url.QueryEscape(then.In(time.FixedZone("", 3600)).Format(time.RFC3339Nano))
	for _, tt := range []struct{ query, want string }{
		{"", "[1 2 3 4 5] 5 "},
		{"as_of=1-0", "[] 0 1-0"},
		{"as_of=1-2", "[1 2] 2 1-2"},
		{"as_of=1-2&backwards=true", "[2 1] 2 1-2"},
		{"as_of=1-4&backwards=true&from_version=2", "[2 1] 4 1-4"},
		{"as_of=1-5", "[1 2 3 4 5] 5 1-5"},
		{"as_of=" + at, "[1 2 3] 3 1-3"},
		{"as_of=2000-01-01T00:00:00Z", "[] 0 1-0"},
	} {
		versions, version, asOf := page(tt.query)
		if got := fmt.Sprint(versions, " ", version, " ", asOf); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.query, got, tt.want)
		}
	}
	for query, want := range map[string]int{"until=1-2": 2, "until=" + at: 3, "until=1-0": 0, "until=0001-01-01T00:00:00Z": 0, "until=1-4&after=1-2": 2, "": 5} {
		lines := r.open(t, http.MethodGet, "/v1/events?"+query)
		n := 0
		for lines.Scan() {
			n++
		}
		if n != want || lines.Err() != nil {
			t.Errorf("%s: %d events, %v; want %d", query, n, lines.Err(), want)
		}
	}
	got, err := apiv1.NewStreamServiceClient(r.conn).ReadStream(t.Context(), &apiv1.ReadStreamRequest{Category: "thing", Id: "1", AsOf: "1-3"})
	if err != nil || len(got.GetEvents()) != 3 || got.GetVersion() != 3 {
		t.Errorf("over gRPC: %v, %v", got, err)
	}
	for path, want := range map[string]string{
		"/v1/streams/thing/1?as_of=yesterday": "neither a position such as 1-42 nor a time",
		"/v1/events?until=0-0":                "0-0 is of no log",
		"/v1/streams/thing/1?as_of=1-6":       "position is not of this log",
		"/v1/streams/thing/1?as_of=2-1":       "position is not of this log",
	} {
		if a := r.do(t, http.MethodGet, path, ""); a.status < 400 || !strings.Contains(a.problem(t).Detail, want) {
			t.Errorf("%s: HTTP %d %s, want %q", path, a.status, a.body, want)
		}
	}
}

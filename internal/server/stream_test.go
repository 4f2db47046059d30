package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// lineStream is a stream that the caller reads line by line.
type lineStream struct {
	*bufio.Scanner
	header http.Header
	major  int // version of HTTP
	leave  func()
}

// open begins a stream.
func (r *rig) open(tb testing.TB, method, path string, headers ...string) *lineStream {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	tb.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := r.web.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	leave := func() { resp.Body.Close() }
	tb.Cleanup(leave)
	return &lineStream{Scanner: bufio.NewScanner(resp.Body), header: resp.Header, major: resp.ProtoMajor, leave: leave}
}

type eventLine struct {
	Position    string         `json:"position"`
	PayloadJSON string         `json:"payload_json"`
	Problem     server.Problem `json:"problem"`
}

func read(tb testing.TB, lines *lineStream) (e eventLine) {
	tb.Helper()
	if !lines.Scan() {
		tb.Fatalf("the stream ended: %v", lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
		tb.Fatalf("%v: %s", err, lines.Text())
	}
	return e
}

func TestEventsAreOneJSONObjectALine(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 5)
	lines := r.open(t, "GET", "/v1/events?after=1-2&limit=2")
	if ct := lines.header.Get("Content-Type"); ct != "application/x-ndjson" {
		t.Errorf("content type %q", ct)
	}
	for _, want := range []string{"1-3", "1-4"} {
		if e := read(t, lines); e.Position != want || e.PayloadJSON != `{"a":1}` {
			t.Errorf("event %+v, want %s", e, want)
		}
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("more than the limit: %q, %v", lines.Text(), lines.Err())
	}
}

// What Tributary records for itself is shown to those who ask for it.
func TestOwnStreamsAreLeftOut(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 1)
	_, err := r.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("$saga", "checkout"),
		Events: []eventstore.Event{{Type: "saga.checkpoint.v1", Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: []byte(`{"a":1}`)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r.fill(t, 1)
	for query, want := range map[string][]string{
		"": {"1-1", "1-3"}, "?limit=2": {"1-1", "1-3"}, "?system=true": {"1-1", "1-2", "1-3"}, "?categories=$saga": {"1-2"},
	} {
		lines := r.open(t, "GET", "/v1/events"+query)
		for _, position := range want {
			if e := read(t, lines); e.Position != position {
				t.Errorf("%s: event %s, want %s", query, e.Position, position)
			}
		}
		if lines.Scan() {
			t.Errorf("%s: more than was wanted: %s", query, lines.Text())
		}
	}
}

func TestEventsAreFollowed(t *testing.T) {
	for name, open := range map[string]func(*rig) func() (position string){
		"HTTP": func(r *rig) func() string {
			lines := r.open(t, "GET", "/v1/events?follow=true&after=1-1")
			return func() string { return read(t, lines).Position }
		},
		"HTTP/2": func(r *rig) func() string {
			protocols := &http.Protocols{}
			protocols.SetUnencryptedHTTP2(true)
			transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
			t.Cleanup(transport.CloseIdleConnections)
			r.web.Transport.(*http.Transport).CloseIdleConnections()
			r.web = &http.Client{Transport: transport}
			lines := r.open(t, "GET", "/v1/events?follow=true&after=1-1")
			if lines.major != 2 {
				t.Errorf("HTTP/%d", lines.major)
			}
			return func() string { return read(t, lines).Position }
		},
		"gRPC": func(r *rig) func() string {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			t.Cleanup(cancel)
			stream, err := apiv1.NewStreamServiceClient(r.conn).ListEvents(ctx, &apiv1.ListEventsRequest{Follow: true, After: "1-1"})
			if err != nil {
				t.Fatal(err)
			}
			return func() string {
				e, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				return e.GetPosition()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, server.Options{}, &fakes{})
			r.fill(t, 2)
			next := open(r)
			if got := next(); got != "1-2" {
				t.Errorf("first %s, want 1-2", got)
			}
			r.fill(t, 1)
			if got := next(); got != "1-3" {
				t.Errorf("then %s, want 1-3", got)
			}
		})
	}
}

func TestServerSentEvents(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 3)
	lines := r.open(t, "GET", "/v1/events?limit=1", "Accept", "text/html, text/event-stream;q=0.9", "Last-Event-ID", "1-2")
	if ct := lines.header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	if len(got) != 3 || got[0] != "id: 1-3" || !strings.HasPrefix(got[1], `data: {"position":"1-3"`) || got[2] != "" {
		t.Errorf("got %q", got)
	}
}

// A stream that cannot begin is a problem like any other; one that fails later says so in its last line.
func TestStreamsThatFail(t *testing.T) {
	f := &fakes{admin: server.Admin{Rebuild: func(_ context.Context, name string, progress func(*apiv1.RebuildProgress) error) error {
		if name == "late" {
			if err := progress(&apiv1.RebuildProgress{DoneEvents: 1}); err != nil {
				return err
			}
		}
		return fmt.Errorf("projection %q: %w", name, eventstore.ErrNotFound)
	}}}
	r := start(t, server.Options{}, f)
	if a := r.do(t, "POST", "/v1/projections/none/rebuild", ""); a.status != 404 || a.problem(t).Status != 404 {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if a := r.do(t, "GET", "/v1/events?after=9-9", ""); a.status != 409 {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	for _, query := range []string{"categories=Order", "categories=", "types=", "tenant=a%20b", "categories=order&categories=%C3%BC", "follow=true&categories=Order"} {
		if a := r.do(t, "GET", "/v1/events?"+query, ""); a.status != 400 || !strings.HasSuffix(a.problem(t).Type, "/invalid") {
			t.Errorf("%s, which no event can have: HTTP %d %s", query, a.status, a.body)
		}
	}
	if a := r.do(t, "GET", "/v1/events?categories=unheard-of&types=Unheard", ""); a.status != 200 || len(a.body) > 0 {
		t.Errorf("names that no event has: HTTP %d %s", a.status, a.body)
	}
	a := r.do(t, "POST", "/v1/projections/late/rebuild", "")
	lines := strings.Split(strings.TrimSpace(string(a.body)), "\n")
	var last eventLine
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 2 || last.Problem.Status != 404 {
		t.Errorf("%v: HTTP %d %s", err, a.status, a.body)
	}
	a = r.do(t, "POST", "/v1/projections/late/rebuild", "", "Accept", "text/event-stream")
	if !strings.Contains(string(a.body), "\n\nevent: problem\ndata: {\"problem\":") {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if a := r.do(t, "POST", "/v1/verify", ""); a.status != 501 {
		t.Errorf("verify: HTTP %d %s", a.status, a.body)
	}
}

// The method learns when its client goes away, and the place is free again.
func TestStreamsEndWithTheirClient(t *testing.T) {
	ended := make(chan struct{})
	f := &fakes{admin: server.Admin{VerifyAll: func(ctx context.Context, _ []string, progress func(*apiv1.VerifyProgress) error) error {
		defer close(ended)
		if err := progress(&apiv1.VerifyProgress{Part: "log"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}}
	r := start(t, server.Options{MaxStreams: 1}, f)
	lines := r.open(t, "POST", "/v1/verify")
	read(t, lines)
	a := r.do(t, "GET", "/v1/events", "")
	if a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("a second stream: HTTP %d %s", a.status, a.body)
	}
	stream, err := apiv1.NewStreamServiceClient(r.conn).ListEvents(t.Context(), &apiv1.ListEventsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream over gRPC: %v", err)
	}
	lines.leave()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the method was not told that its client is gone")
	}
	soon(t, "the place is free again", func() bool { return r.do(t, "GET", "/v1/events", "").status == 200 })
}

// Over one connection there is room for all the streams that the server takes, and one too many is told so.
func TestStreamsOfOneConnection(t *testing.T) {
	const most = 1100 // more than gRPC or HTTP/2 would take of themselves
	r := start(t, server.Options{MaxStreams: most}, &fakes{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := apiv1.NewStreamServiceClient(r.conn)
	for i := range most {
		if _, err := client.ListEvents(ctx, &apiv1.ListEventsRequest{Follow: true}); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	soon(t, "all are open", func() bool {
		return strings.Contains(string(r.do(t, "GET", "/metrics", "").body), fmt.Sprintf("tributary_streams_open %d", most))
	})
	stream, err := client.ListEvents(ctx, &apiv1.ListEventsRequest{Follow: true})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one stream more: %v, want that it is refused", err)
	}
}

// A client that does not read holds the sender back: what is sent stays within what the connection buffers.
func TestStreamsAreHeldBackByTheirClient(t *testing.T) {
	const size, enough = 64 << 10, 4096 // 256 MiB, more than any socket buffers
	var sent int
	done := make(chan error, 1)
	f := &fakes{admin: server.Admin{VerifyAll: func(ctx context.Context, _ []string, progress func(*apiv1.VerifyProgress) error) error {
		m := &apiv1.VerifyProgress{ReportJson: strings.Repeat("x", size)}
		for ; sent < enough && ctx.Err() == nil; sent++ {
			if err := progress(m); err != nil {
				done <- err
				return err
			}
		}
		done <- ctx.Err()
		return ctx.Err()
	}}}
	r := start(t, server.Options{}, f)
	conn, err := net.Dial("tcp", r.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/verify HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("all was sent to a client that does not read: %v after %d messages", err, sent)
	case <-time.After(300 * time.Millisecond):
	}
	conn.Close()
	select {
	case err := <-done:
		if err == nil || sent >= enough {
			t.Errorf("sent %d of %d messages, then %v", sent, enough, err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the method goes on although its client is gone")
	}
}

func TestHeadOfAStreamEnds(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	if a := r.do(t, "HEAD", "/v1/events?follow=true", ""); a.status != 200 || len(a.body) != 0 {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
}

func TestReadStream(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	r.fill(t, 5)
	client := apiv1.NewStreamServiceClient(r.conn)
	for name, tt := range map[string]struct {
		ask      *apiv1.ReadStreamRequest
		versions string
		next     uint64
	}{
		"all":             {&apiv1.ReadStreamRequest{}, "[1 2 3 4 5]", 0},
		"page":            {&apiv1.ReadStreamRequest{Limit: 2}, "[1 2]", 3},
		"next page":       {&apiv1.ReadStreamRequest{FromVersion: 3, Limit: 3}, "[3 4 5]", 0},
		"backwards":       {&apiv1.ReadStreamRequest{Backwards: true, Limit: 2}, "[5 4]", 3},
		"backwards, next": {&apiv1.ReadStreamRequest{Backwards: true, FromVersion: 3, Limit: 5}, "[3 2 1]", 0},
		"beyond":          {&apiv1.ReadStreamRequest{FromVersion: 9}, "[]", 0},
	} {
		t.Run(name, func(t *testing.T) {
			tt.ask.Category, tt.ask.Id = "thing", "1"
			page, err := client.ReadStream(t.Context(), tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			versions := []uint64{}
			for _, e := range page.GetEvents() {
				versions = append(versions, e.GetVersion())
			}
			if fmt.Sprint(versions) != tt.versions || page.GetNextFromVersion() != tt.next || page.GetVersion() != 5 {
				t.Errorf("versions %v, next %d, at %d", versions, page.GetNextFromVersion(), page.GetVersion())
			}
		})
	}
	if a := r.do(t, "GET", "/v1/streams/thing/1?limit=1", ""); a.status != 200 || a.header.Get("Etag") != `"5"` {
		t.Errorf("HTTP %d %s, headers %v", a.status, a.body, a.header)
	}
	if a := r.do(t, "GET", "/v1/streams/thing/1?limit=1", "", "X-Tenant", "other"); !strings.Contains(string(a.body), `"version":"0"`) {
		t.Errorf("another tenant sees %s", a.body)
	}
	for _, path := range []string{"/v1/streams/Thing/1", "/v1/streams/thing/1?limit=1001", "/v1/streams/thing/1?tenant=NO"} {
		if a := r.do(t, "GET", path, ""); a.status != 400 {
			t.Errorf("%s: HTTP %d %s", path, a.status, a.body)
		}
	}
}

// A page of large events ends before it is larger than clients take.
func TestPagesAreBoundedInBytes(t *testing.T) {
	r := start(t, server.Options{}, &fakes{})
	for range 5 {
		_, err := r.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("thing", "1"),
			Events: []eventstore.Event{{Type: "thing.happened.v1", Payload: make([]byte, 1<<20)}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	client := apiv1.NewStreamServiceClient(r.conn)
	var n int
	for from := uint64(1); from > 0; {
		page, err := client.ReadStream(t.Context(), &apiv1.ReadStreamRequest{Category: "thing", Id: "1", FromVersion: from})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.GetEvents()) == 0 {
			t.Fatal("an empty page")
		}
		n += len(page.GetEvents())
		from = page.GetNextFromVersion()
	}
	if n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

func TestOutbox(t *testing.T) {
	f := &fakes{admin: server.Admin{Outbox: func(_ context.Context, status string, limit int) ([]*apiv1.OutboxMessage, error) {
		if status == "failed" {
			return nil, errors.New("odd")
		}
		return []*apiv1.OutboxMessage{{Id: fmt.Sprint(status, limit)}}, nil
	}}}
	r := start(t, server.Options{}, f)
	if a := r.do(t, "GET", "/v1/outbox?status=sent&limit=7", ""); !strings.Contains(string(a.body), `"id":"sent7"`) {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	for query, want := range map[string]int{"status=odd": 400, "limit=1001": 400, "status=failed": 500} {
		if a := r.do(t, "GET", "/v1/outbox?"+query, ""); a.status != want {
			t.Errorf("%s: HTTP %d %s, want %d", query, a.status, a.body, want)
		}
	}
}

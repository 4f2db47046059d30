package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/testenv"
)

// runAlone runs a node with the shop, the embedded Redis and nothing else, until stop.
func runAlone(t *testing.T, data string) (n *Node, stop func()) {
	t.Helper()
	return runBeside(t, data, "")
}

// runBeside does so with a Redis; empty means the embedded one.
func runBeside(t *testing.T, data, redis string) (n *Node, stop func()) {
	t.Helper()
	n, err := Open(t.Context(), Config{
		Data: data, Redis: redis, Kafka: Off, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return n, func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	}
}

// What a read model in memory is filled from at each start is not dropped, however far the model is: shows S32. Where it was
// dropped all the same, the model stands still, and health and answers say why and what to do; a rebuild ends at once.
func TestDropBesideModelsInMemory(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	n, stop := runAlone(t, data)
	var last eventstore.Position
	for range 5 {
		r, err := n.local.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		last = r.Position
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, m := range n.models {
		if err := m.runner.Await(ctx, last); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.local.Archive(ctx, pebblestore.ArchiveOptions{To: filepath.Join(t.TempDir(), "archive"), SegmentBytes: 1}); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"projection shop-redis is filled from the first event", "--redis HOST:PORT"} {
		if _, err := n.drop(ctx, pebblestore.DropOptions{Until: time.Now()}); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("a drop beside the embedded Redis: %v; want it refused, with %q", err, what)
		}
	}
	if report, err := n.local.Drop(ctx, pebblestore.DropOptions{Until: time.Now()}); err != nil || report.Events == 0 {
		t.Fatalf("dropped %+v, %v", report, err)
	}
	stop()

	n, stop = runAlone(t, data)
	defer stop()
	named := func() string {
		for _, d := range n.health(ctx) {
			if d.Name == "projection shop-redis" && !d.Up {
				return d.Problem
			}
		}
		return ""
	}
	for named() == "" {
		select {
		case <-ctx.Done():
			t.Fatal("health does not name the model that cannot be filled")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if problem := named(); !strings.Contains(problem, "stopped") || !strings.Contains(problem, "dropped") || !strings.Contains(problem, "--source kafka") {
		t.Errorf("health says %q", problem)
	}
	resp, err := http.Get("http://" + n.HTTPAddr() + "/v1/order-counts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "dropped") {
		t.Errorf("orders: HTTP %d, %s (%v); want 503 with the reason", resp.StatusCode, body, err)
	}
	if _, _, err := n.Rebuild(ctx, "shop-redis", func(done, total uint64) {}); err == nil || ctx.Err() != nil {
		t.Errorf("a rebuild: %v; want an error at once", err)
	}
	asked, err := http.Post("http://"+n.HTTPAddr()+"/v1/projections/shop-redis/rebuild", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Body.Close()
	var problem server.Problem
	if err := json.NewDecoder(asked.Body).Decode(&problem); err != nil || asked.StatusCode != http.StatusConflict || !strings.HasSuffix(problem.Type, "/dropped") ||
		!strings.Contains(problem.Detail, n.local.First().String()) || !strings.Contains(problem.Hint, "--source kafka") {
		t.Errorf("a rebuild, over HTTP: %d, %+v (%v); want it refused, with where the log begins and what to do", asked.StatusCode, problem, err)
	}
}

// What was dropped leaves nothing to compare a read model with: a verification says so, and calls it no fault.
func TestVerifyAfterADrop(t *testing.T) {
	n, stop := runBeside(t, filepath.Join(t.TempDir(), "data"), testenv.Redis(t).Addr())
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last eventstore.Position
	for range 5 {
		r, err := n.local.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		last = r.Position
	}
	for _, m := range n.models { // one that is being filled cannot be compared
		if err := m.runner.Await(ctx, last); err != nil {
			t.Fatal(err)
		}
	}
	verify := func() Report {
		t.Helper()
		report, err := n.Verify(ctx, nil, func(string, uint64, uint64) {})
		if err != nil || len(report.Faults) > 0 || !report.Log.Verified || report.Log.Events < 5 {
			t.Errorf("verified: %+v, %v", report, err)
		}
		return report
	}
	if report := verify(); len(report.NotCompared) > 0 {
		t.Errorf("nothing was dropped, and not compared is %q", report.NotCompared)
	}
	if _, err := n.local.Archive(ctx, pebblestore.ArchiveOptions{To: filepath.Join(t.TempDir(), "archive"), SegmentBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if report, err := n.local.Drop(ctx, pebblestore.DropOptions{Until: time.Now()}); err != nil || report.Events == 0 {
		t.Fatalf("dropped %+v, %v", report, err)
	}
	if report := verify(); len(report.NotCompared) != 1 || !strings.Contains(report.NotCompared[0], "redis: shop-redis") || !strings.Contains(report.NotCompared[0], n.local.First().String()) {
		t.Errorf("after a drop not compared is %q; want the read model in Redis", report.NotCompared)
	}
}

// A node that would drop by itself what its read models are filled from is not started.
func TestDropAfterBesideModelsInMemory(t *testing.T) {
	c := Config{Data: t.TempDir(), Kafka: Off, ClickHouse: Off, ArchiveTo: t.TempDir(), ArchiveAfter: time.Hour, DropAfter: time.Hour}
	if err := c.complete(); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "--drop-after") || !strings.Contains(err.Error(), "--redis") {
		t.Errorf("with the embedded Redis: %v; want it refused, and what to do", err)
	}
	c.Redis = "127.0.0.1:6379"
	if err := c.complete(); err != nil {
		t.Errorf("with another Redis: %v", err)
	}
}

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestTakenPort: the error names the flag that chooses another.
func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for flag, value := range map[string]string{"--http": taken.Addr().String(), "--grpc": taken.Addr().String(), "--kafka-port": port} {
		args := []string{"serve", "--data", t.TempDir(), "--clickhouse", "off", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", flag, value}
		a := tributary(t, args...)
		if a.code == 0 || a.code == 3 || a.code == 4 || !strings.Contains(a.stderr, flag) || !strings.Contains(a.stderr, taken.Addr().String()) {
			t.Errorf("exit code %d, %q; want %s and the address named", a.code, a.stderr, flag)
		}
	}
}

// TestTwoServersOneFolder: the second one is told who has the folder, in words of ours.
func TestTwoServersOneFolder(t *testing.T) {
	s := serve(t, t.TempDir(), "--clickhouse", "off")
	a := tributary(t, "serve", "--data", s.data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--clickhouse", "off")
	if a.code == 0 || !strings.Contains(a.stderr, s.data) || !strings.Contains(a.stderr, "in use") {
		t.Errorf("the second server: exit code %d, %q; want it to say that the folder is in use", a.code, a.stderr)
	}
	lockIsHidden(t, a)
	// A server whose beacon is lost still has its folder.
	if err := os.Remove(filepath.Join(s.data, "server.json")); err != nil {
		t.Fatal(err)
	}
	a = tributary(t, "verify", "--data", s.data)
	if a.code == 0 || !strings.Contains(a.stderr, "in use") {
		t.Errorf("verify beside a server that cannot be found: exit code %d, %q; want it to say that the folder is in use", a.code, a.stderr)
	}
	lockIsHidden(t, a)
	s.get(t, "/v1/health")
	s.stop(t)
}

// lockIsHidden wants no word of Pebble's lock.
func lockIsHidden(t *testing.T, a answer) {
	t.Helper()
	for _, word := range []string{"pebble", "LOCK", "lock held", "resource temporarily unavailable"} {
		if strings.Contains(a.stderr, word) {
			t.Errorf("the error speaks of %q: %s", word, a.stderr)
		}
	}
}

// TestGracefulStop: SIGTERM under way loses nothing that was acknowledged, ends streams, leaves no process behind, and the
// next start has the same data.
func TestGracefulStop(t *testing.T) {
	s := serve(t, t.TempDir())
	s.caughtUp(t)
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 1000}`)
	follower, err := http.DefaultClient.Do(request(t, http.MethodGet, "http://"+s.http+"/v1/events?follow=true", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Body.Close()
	load := startLoad(t, s)
	lines := bufio.NewScanner(follower.Body)
	for n := 0; n < 200 && lines.Scan(); n++ {
	}
	if len(processesOf(t, s.data)) < 2 {
		t.Error("no ClickHouse runs beside the server")
	}
	load.ending.Store(true)
	s.stop(t)
	placed := load.stop()
	for lines.Scan() {
	}
	if left := processesOf(t, s.data); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
	if _, err := os.Stat(filepath.Join(s.data, "server.json")); err == nil {
		t.Error("the stopped server's beacon is left")
	}

	s = serve(t, s.data)
	s.caughtUp(t)
	counts, _ := s.get(t, "/v1/order-counts")["by_status"].(map[string]any)
	if counts["shipped"] != strconv.FormatInt(placed, 10) {
		t.Errorf("after the restart %v orders are shipped, %d were acknowledged", counts, placed)
	}
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Errorf("verify after a graceful stop: %v", r.Faults)
	}
	s.stop(t)
}

// TestVerbs runs every verb that looks at data on a running server that is found by its folder, on one that is named, and on
// the stopped folder: each prints JSON when asked to, and the same.
func TestVerbs(t *testing.T) {
	s := serve(t, t.TempDir())
	file := testdata(t, "three-decimals.csv")
	first := decoded[object](t, done(t, "import", "retail", "--json", "--data", s.data, file))
	if first["repeated"] != float64(0) {
		t.Errorf("the first import: %v", first)
	}
	s.caughtUp(t)
	byData := verbs(t, file, "--data", s.data)
	byAddr := verbs(t, file, "--addr", s.grpc)
	s.stop(t)
	stopped := verbs(t, file, "--data", s.data)
	for _, other := range []map[string]string{byAddr, stopped} {
		for name, text := range byData {
			if other[name] != text {
				t.Errorf("%s says %s here and %s there", name, tail(text, 500), tail(other[name], 500))
			}
		}
	}
}

// verbs runs the verbs and returns what must be the same wherever they run.
func verbs(t *testing.T, file string, where ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	imported := decoded[object](t, done(t, append([]string{"import", "retail", "--json", file}, where...)...))
	if imported["items"] != imported["repeated"] {
		t.Errorf("an import a second time, %v: %v", where, imported)
	}
	read := done(t, append([]string{"events", "read", "--json", "--category", "order"}, where...)...)
	for line := range strings.Lines(read) {
		decoded[object](t, line)
	}
	out["events read --category"] = read
	out["events read --stream"] = done(t, append([]string{"events", "read", "--json", "--stream", "order/550193"}, where...)...)
	if n := strings.Count(out["events read --stream"], "\n"); n != 3 {
		t.Errorf("order 550193 has %d events, want 3", n)
	}
	second := decoded[object](t, strings.Split(out["events read --stream"], "\n")[1])["position"].(string)
	for _, flags := range [][]string{{"--stream", "order/550193"}, {"--category", "order"}} {
		then := done(t, append(append([]string{"events", "read", "--json", "--as-of", second}, flags...), where...)...)
		lines := strings.Split(strings.TrimSpace(then), "\n")
		if !strings.HasPrefix(out["events read "+flags[0]], then) || decoded[object](t, lines[len(lines)-1])["position"] != second {
			t.Errorf("events read %v as of %s ends with %s", flags, second, tail(then, 500))
		}
	}
	r := decoded[report](t, done(t, append([]string{"verify", "--json"}, where...)...))
	if len(r.Faults) > 0 || !r.Log.Verified {
		t.Errorf("verify %v: %v", where, r.Faults)
	}
	shop, err := json.Marshal([]any{r.Redis, r.ClickHouse})
	if err != nil {
		t.Fatal(err)
	}
	out["verify"] = string(shop)
	for _, name := range []string{"shop-redis", "shop-clickhouse"} {
		rebuilt := decoded[object](t, done(t, append([]string{"rebuild", name, "--json"}, where...)...))
		digests, err := json.Marshal(rebuilt["digest"])
		if err != nil || rebuilt["equal"] != true {
			t.Errorf("rebuild %s: %v", name, rebuilt)
		}
		out["rebuild "+name] = string(digests)
	}
	a := tributary(t, append([]string{"rebuild", "no-such"}, where...)...)
	if a.code == 0 || !strings.Contains(a.stderr, "shop-redis") {
		t.Errorf("rebuild of what there is not: exit code %d, %q; want the names that there are", a.code, a.stderr)
	}
	return out
}

// TestVerbsWithoutData prints JSON too.
func TestVerbsWithoutData(t *testing.T) {
	version := decoded[object](t, done(t, "version", "--json"))
	if version["version"] == "" {
		t.Errorf("version: %v", version)
	}
	decoded[object](t, done(t, "doctor", "--json"))
	decoded[object](t, done(t, "setup", "--json"))
	bench := decoded[object](t, done(t, "bench", "append", "--raw", "--json", "--duration", "200ms", "--rounds", "1"))
	for _, field := range []string{"rate", "p50_us", "p99_us", "events", "raw_rate", "ratio"} {
		if figure, _ := bench[field].(float64); figure <= 0 {
			t.Errorf("bench append: %s is %v in %v", field, bench[field], bench)
		}
	}
	a := tributary(t, "--help")
	if a.code != 0 || !strings.Contains(a.stdout, "verify") {
		t.Errorf("help: exit code %d, %q", a.code, a.stdout)
	}
}

// TestTail follows the log until it is interrupted, and ends well.
func TestTail(t *testing.T) {
	s := serve(t, t.TempDir(), "--clickhouse", "off")
	follower := start(t, built, "events", "tail", "--after", "1-1", "--json", "--data", s.data)
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 10}`)
	if e := decoded[object](t, follower.line(t)); e["type"] != "inventory.received.v1" {
		t.Errorf("the first event is %v", e)
	}
	s.post(t, "/v1/stock/MUG-2/receive", `{"quantity": 10}`)
	if e := decoded[object](t, follower.line(t)); e["stream_id"] != "MUG-2" {
		t.Errorf("the second event is %v", e)
	}
	follower.stop(t)

	follower = start(t, built, "events", "tail", "--json", "--data", s.data)
	ctx, cancel := context.WithCancel(t.Context())
	var posting sync.WaitGroup
	posting.Go(func() { // the follower says nowhere when it has begun
		for i := 3; ctx.Err() == nil; i++ {
			s.post(t, fmt.Sprintf("/v1/stock/MUG-%d/receive", i), `{"quantity": 10}`)
		}
	})
	e := decoded[object](t, follower.line(t))
	cancel()
	posting.Wait()
	if id := e["stream_id"]; id == "MUG-1" || id == "MUG-2" {
		t.Errorf("without --after the first event is %v, which was there before", e)
	}
	follower.stop(t)
	s.stop(t)
}

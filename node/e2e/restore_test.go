package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
)

// restoreReport is what restore prints with --json.
type restoreReport struct {
	Log      string `json:"log"`
	Before   string `json:"before"`
	Position string `json:"position"`
	Events   uint64 `json:"events"`
	LeftOut  uint64 `json:"left_out"`
	Torn     uint64 `json:"torn"`
}

// digests rebuilds read models and returns the digest of each, which must be what it was.
func digests(t *testing.T, data string, models ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range models {
		r := decoded[struct {
			Digest []string `json:"digest"`
			Equal  bool     `json:"equal"`
		}](t, done(t, "rebuild", name, "--json", "--data", data))
		if !r.Equal || len(r.Digest) != 2 || r.Digest[1] == "" {
			t.Fatalf("rebuild of %s: %+v", name, r)
		}
		out[name] = r.Digest[1]
	}
	return out
}

const keyedOrder = `{"id": "K-1", "customer_id": "17850", "country": "France", "lines": [{"stock_code": "MUG-1", "quantity": 1, "unit_price": "4.25"}]}`

// The data folder is deleted; all of it comes back from Kafka: the log with its dots in a new life, read models with the
// digests they had, receipts of requests that are repeated. Positions from before are refused. It is T37 of
// docs/reliability.md, and shows S17 and S18.
func TestRestoreFromKafka(t *testing.T) {
	servers := realOnes(t)
	s := serve(t, filepath.Join(t.TempDir(), "data"), servers.flags()...)
	fiveOrders(t, s)
	receipt := s.post(t, "/v1/orders", keyedOrder, "Idempotency-Key: keyed")
	s.caughtUp(t)
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Fatalf("verify, before anything was lost: %v", r.Faults)
	}
	models := []string{"shop-redis", "shop-clickhouse"}
	was, events := digests(t, s.data, models...), eventCounts(t, s.data)
	s.stop(t)
	if err := os.RemoveAll(s.data); err != nil {
		t.Fatal(err)
	}

	restored := decoded[restoreReport](t, done(t, "restore", "--json", "--from-kafka", servers.kafka, "--site", servers.site, "--data", s.data))
	if !strings.HasSuffix(restored.Log, "@"+servers.site+"/2") || !strings.HasSuffix(restored.Before, "/1") || restored.Torn != 0 || restored.Events == 0 {
		t.Fatalf("restored %+v, want all of life 1 in life 2", restored)
	}
	s = serve(t, s.data, servers.flags()...)
	s.caughtUp(t)
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Errorf("verify, after the restore: %v", r.Faults)
	}
	rebuilt := digests(t, s.data, models...)
	if diff := cmp.Diff(was, rebuilt); diff != "" {
		t.Errorf("digests, - before the loss, + after the restore:\n%s", diff)
	}
	if diff := cmp.Diff(events, eventCounts(t, s.data)); diff != "" {
		t.Errorf("events by type, - before the loss, + after the restore:\n%s", diff)
	}
	again := s.post(t, "/v1/orders", keyedOrder, "Idempotency-Key: keyed")
	before, _ := receipt["position"].(string)
	now := "2" + strings.TrimPrefix(before, "1")
	if again["duplicate"] != true || again["position"] != now || again["version"] != receipt["version"] {
		t.Errorf("the repeated request got %v, its receipt was %v; want the same at %s", again, receipt, now)
	}
	resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/orders/T-2", "", "X-Read-After: "+before))
	if resp.StatusCode/100 != 4 {
		t.Errorf("a position from before the loss: %s %s; want it refused", resp.Status, body)
	}
	s.get(t, "/v1/orders/T-2", "X-Read-After: "+now)
	s.post(t, "/v1/orders", strings.ReplaceAll(keyedOrder, "K-1", "K-2"))
	s.caughtUp(t)
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Errorf("verify, after the log has gone on: %v", r.Faults)
	}
	s.stop(t)
	reliability.Result{
		Test: "T37", What: "a deleted data folder restored from Kafka, read models made anew in Redis and ClickHouse", Cycles: 1,
		Extra: map[string]any{"events": restored.Events, "digests compared": len(rebuilt)},
	}.Print(t)
}

// A backup of a running server is restored whole, and up to a place; what cannot be restored is said with the code that
// scripts look at.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	alone := []string{"--kafka", "off", "--clickhouse", "off"}
	s := serve(t, filepath.Join(dir, "data"), append(alone, "--site", "west")...)
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	for n := range 5 {
		s.post(t, "/v1/orders", strings.ReplaceAll(keyedOrder, "K-1", fmt.Sprint("T-", n)))
	}
	backup := filepath.Join(dir, "backup")
	made := decoded[struct {
		Log      string `json:"log"`
		Position string `json:"position"`
		Events   uint64 `json:"events"`
	}](t, done(t, "backup", "--json", "--data", s.data, "--to", backup))
	if made.Events == 0 || made.Position != fmt.Sprint("1-", made.Events) {
		t.Fatalf("backup: %+v", made)
	}
	s.post(t, "/v1/orders", keyedOrder) // not in the backup
	s.stop(t)

	whole := filepath.Join(dir, "whole")
	restored := decoded[restoreReport](t, done(t, "restore", "--json", "--from", backup, "--data", whole))
	if restored.Events != made.Events || !strings.HasSuffix(restored.Log, "/2") {
		t.Errorf("restored %+v of %+v", restored, made)
	}
	part := filepath.Join(dir, "part")
	restored = decoded[restoreReport](t, done(t, "restore", "--json", "--from", backup, "--data", part, "--at", "1-5"))
	if restored.Events < 5 || restored.Events+restored.LeftOut != made.Events || !strings.HasSuffix(restored.Log, "/3") {
		t.Errorf("restored up to 1-5: %+v of %+v", restored, made)
	}
	again := serve(t, whole, alone...) // of the site that the backup is of
	order := again.get(t, "/v1/orders/T-3", "X-Read-After: "+fmt.Sprint("2-", made.Events))
	if order["id"] != "T-3" {
		t.Errorf("a restored order is %v", order)
	}
	if resp, _ := roundTrip(t, request(t, http.MethodGet, "http://"+again.http+"/v1/orders/K-1", "")); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an order that came after the backup: %s", resp.Status)
	}
	if r := verify(t, whole, "--part", "log", "--part", "redis"); len(r.Faults) > 0 {
		t.Errorf("verify of what was restored: %v", r.Faults)
	}
	second := filepath.Join(dir, "second")
	if b := done(t, "backup", "--addr", again.grpc, "--to", second); !strings.Contains(b, "shard-00@west/2") {
		t.Errorf("backup of a restored log says %s", b)
	}
	again.stop(t)
	done(t, "backup", "--data", whole, "--to", filepath.Join(dir, "third")) // nobody runs on it

	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"restore", "--from", backup, "--data", whole}, 2, "does not overwrite"},
		{[]string{"restore", "--from", whole, "--data", filepath.Join(dir, "new")}, 2, "no backup"},
		{[]string{"restore", "--from", backup, "--data", filepath.Join(dir, "new"), "--at", "1-999999"}, 2, "1-999999"},
		{[]string{"restore", "--from", backup, "--data", filepath.Join(dir, "new"), "--until", "yesterday"}, 2, "yesterday"},
		{[]string{"restore", "--data", filepath.Join(dir, "new")}, 2, "--from"},
		{[]string{"backup", "--data", whole, "--to", backup}, 2, "not empty"},
		{[]string{"serve", "--data", backup, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, 2, "tributary restore"},
	} {
		if a := tributary(t, c.args...); a.code != c.code || !strings.Contains(a.stderr, c.says) {
			t.Errorf("tributary %s: exit code %d, want %d and %q; stderr:\n%s", strings.Join(c.args, " "), a.code, c.code, c.says, tail(a.stderr, 1000))
		}
	}
	segment := filepath.Join(backup, "log-00000000000000000001.blocks")
	body, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.WriteFile(segment, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := tributary(t, "restore", "--from", backup, "--data", filepath.Join(dir, "new")); a.code != 4 || !strings.Contains(a.stderr, filepath.Base(segment)) {
		t.Errorf("restore of a damaged backup: exit code %d; stderr:\n%s", a.code, tail(a.stderr, 1000))
	}
}

// mirrors waits until the mirror copies.
func (s *serving) mirrors(t *testing.T) {
	t.Helper()
	eventually(t, "the mirror copies", func() bool {
		mirror, _ := s.get(t, "/v1/status")["mirror"].(map[string]any)
		return mirror["state"] == "mirroring"
	})
}

// A log that has lost its end takes no commands, and gets back from Kafka what it had acknowledged, in the life that it is in.
func TestLostTailFromKafka(t *testing.T) {
	kafka, site := testenv.SharedKafka(t).Addr(), testenv.Unique(t)
	data := filepath.Join(t.TempDir(), "data")
	flags := []string{"--site", site, "--kafka", kafka, "--clickhouse", "off"}
	s := serve(t, data, flags...)
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	s.stop(t)
	log, older := filepath.Join(data, "store", "log"), filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(older, os.DirFS(log)); err != nil {
		t.Fatal(err)
	}
	s = serve(t, data, flags...)
	s.mirrors(t)
	receipt := s.post(t, "/v1/orders", keyedOrder, "X-Durability: kafka")
	if receipt["durability"] != "kafka" {
		t.Fatalf("receipt %v, want it to be in kafka", receipt)
	}
	s.stop(t)
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(log, os.DirFS(older)); err != nil {
		t.Fatal(err)
	}

	s = serve(t, data, flags...)
	resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+s.http+"/v1/orders", strings.ReplaceAll(keyedOrder, "K-1", "K-2")))
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "--tail-from-kafka") {
		t.Errorf("a command to a log that has lost its end: %s %s", resp.Status, body)
	}
	s.stop(t)
	// What the server appended last, a checkpoint say, Kafka may not have: then that is said, and nothing goes on as if it had.
	a := tributary(t, "restore", "--json", "--tail-from-kafka", kafka, "--data", data)
	back := decoded[struct {
		Log             string `json:"log"`
		Events, Missing uint64
	}](t, a.stdout)
	if back.Events == 0 || !strings.HasSuffix(back.Log, "/1") || (a.code == 4) != (back.Missing > 0) || a.code != 0 && a.code != 4 {
		t.Fatalf("restore of the end: exit code %d, %+v; stderr:\n%s", a.code, back, tail(a.stderr, 1000))
	}
	s = serve(t, data, flags...)
	position, _ := receipt["position"].(string)
	if order := s.get(t, "/v1/orders/K-1", "X-Read-After: "+position); order["id"] != "K-1" {
		t.Errorf("the order that was acknowledged is %v", order)
	}
	if back.Missing == 0 {
		s.mirrors(t)
		s.post(t, "/v1/orders", strings.ReplaceAll(keyedOrder, "K-1", "K-2"), "X-Durability: kafka")
	}
	s.stop(t)
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
)

// anna and bert are two customers with texts that stand nowhere else. anna is erased.
const (
	anna = "4711"
	bert = "4712"

	annasMark = "Qx7ErasableAnnaVexillum"
	bertsMark = "Zk3RemainingBertGlockenspiel"

	// openMark is not personal: a search that does not find it has not looked.
	openMark = "MUG-1"
)

// erasureRig is a server on real servers, and what is looked at beside it.
type erasureRig struct {
	t       *testing.T
	servers realServers
	data    string
	kafka   string // folders of the real servers
	click   string
	keys    string // a folder of its own, as it should be
	copies  map[string]string
	logs    strings.Builder // what servers of this test have logged
	looked  int
	hits    int            // marks in plain text where none may be
	opened  map[string]int // how often the open mark was found, by the kind of place
}

// TestErasedPersonIsNowhere erases one of two customers and then looks for both, byte by byte, in the data folder with its
// snapshots, Kafka, Redis, ClickHouse, all logs and the backups: of the erased one there is nothing, before and after models are
// rebuilt from the store and from Kafka, a start, and backups that come back. It is T31 of docs/reliability.md, and shows E1, E2 and E3.
func TestErasedPersonIsNowhere(t *testing.T) {
	r := &erasureRig{
		t: t, servers: realOnes(t), data: filepath.Join(t.TempDir(), "data"), keys: filepath.Join(t.TempDir(), "keys"),
		kafka: testenv.SharedKafka(t).Dir(), click: testenv.SharedClickHouse(t).Dir(), copies: map[string]string{},
		opened: map[string]int{},
	}
	s := r.serve()
	r.orders(s)
	r.expect(s, "before", 3, 3)
	digest := r.digest()
	backup := r.backup("before the erasure")
	r.end(s)
	keysBackup := filepath.Join(t.TempDir(), "keys.backup")
	done(t, "keys", "backup", "--data", r.data, "--keys", r.keys, keysBackup)
	old, err := os.ReadFile(filepath.Join(r.keys, "keys.slots"))
	if err != nil {
		t.Fatal(err)
	}

	s = r.serve()
	erasure := decoded[object](t, done(t, "erase", "--json", "--data", r.data, "--subject", anna, "--reason", "asked for by letter", "--actor", "desk/7"))
	if erasure["state"] != "done" || erasure["key_destroyed"] != true || erasure["reason"] != "asked for by letter" || erasure["actor"] != "desk/7" {
		t.Errorf("erase: %v, want it done", erasure)
	}
	r.expect(s, "after the erasure", 0, 3)
	for customer, erased := range map[string]bool{anna: true, bert: false} {
		if text := done(t, "events", "read", "--data", r.data, "--stream", "order/O-"+customer+"-0"); strings.Contains(text, "(personal data erased)") != erased {
			t.Errorf("events read of an order of %s, erased: %v:\n%s", customer, erased, tail(text, 2000))
		}
	}
	if a := tributary(t, "erase", "--data", r.data, "--subject", "nobody", "--reason", "x"); a.code != 2 || !strings.Contains(a.stderr, "nothing to erase") {
		t.Errorf("erase of a subject that no event has: exit code %d, %s", a.code, tail(a.stderr, 1000))
	}
	again := s.call(t, http.MethodDelete, "/v1/subjects/"+anna+"?reason=twice", "")
	if again["state"] != "done" || again["event"] != erasure["event"] || again["reason"] != "asked for by letter" {
		t.Errorf("erased again: %v, want the first erasure", again)
	}
	r.refused(s)
	if kept := r.digest(); kept == digest {
		t.Error("the model is the same with and without what was erased")
	}
	rebuilt := decoded[object](t, done(t, "rebuild", "--json", "--data", r.data, "shop-redis"))
	if rebuilt["equal"] != true {
		t.Errorf("rebuilt and kept models differ: %v", rebuilt)
	}
	r.expect(s, "after a rebuild", 0, 3)
	r.sound()
	r.end(s)

	dialRedis(t, r.servers.redis).do(t, "FLUSHALL")
	s = r.serve("--source", "kafka")
	r.expect(s, "filled again from Kafka", 0, 3)
	r.sound()
	r.end(s)

	restored := decoded[object](t, done(t, "keys", "restore", "--json", "--data", r.data, "--keys", r.keys, keysBackup))
	if restored["kept_erased"] != 1.0 || restored["restored"] != 0.0 {
		t.Errorf("restore of the keys: %v, want anna's kept out", restored)
	}
	// A folder that is brought back by hand knows no tombstone; the log does.
	if err := os.WriteFile(filepath.Join(r.keys, "keys.slots"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	s = r.serve("--source", "store")
	r.backup("after the erasure")
	r.expect(s, "with an old key file", 0, 3)
	r.end(s)
	if !strings.Contains(r.logs.String(), "keys of erased subjects were there") {
		t.Error("no log tells of the key that came back")
	}
	r.oldBackup(backup)
	left := r.searchFolders()
	r.in(left)("logs", "logs", []byte(r.logs.String()))
	for where, marks := range left {
		r.hit(where, "at the end", marks)
	}
	for _, place := range []string{"data folder", "snapshots", "topic", "backup before the erasure", "backup after the erasure", "backup restored"} {
		if r.opened[place] == 0 {
			t.Errorf("%s: the search has not found what is not personal, so it shows nothing", place)
		}
	}

	failed := 0
	if t.Failed() {
		failed = 1
	}
	reliability.Result{
		Test: "T31", What: "one of two customers erased; data folder, snapshots, Kafka, Redis, ClickHouse, logs and backups searched", Cycles: r.looked,
		Violations: max(r.hits, failed), Extra: map[string]any{"markers": 2, "orders": 6, "plaintext_hits": r.hits},
	}.Print(t)
}

// hit counts marks that are where they must not be.
func (r *erasureRig) hit(where, when string, marks map[string]int) {
	r.t.Helper()
	for _, n := range marks {
		r.hits += n
	}
	r.t.Errorf("%s: %s has marks in plain text: %v", when, where, marks)
}

func (r *erasureRig) serve(flags ...string) *serving {
	r.t.Helper()
	s := serve(r.t, r.data, slices.Concat(r.servers.flags(), []string{"--keys", r.keys}, flags)...)
	s.caughtUp(r.t)
	return s
}

func (r *erasureRig) end(s *serving) {
	r.t.Helper()
	s.caughtUp(r.t)
	s.stop(r.t)
	r.logs.WriteString(s.errText())
	r.logs.WriteString(s.stdout.String())
}

// orders places three orders of each, one of them cancelled, one repeated, one refused. There is so much to do in the stock
// that a snapshot is taken.
func (r *erasureRig) orders(s *serving) {
	r.t.Helper()
	for range commands.DefaultSnapshotEvery {
		s.post(r.t, "/v1/stock/"+openMark+"/receive", `{"quantity": 1}`)
	}
	for customer, mark := range map[string]string{anna: annasMark, bert: bertsMark} {
		for n := range 3 {
			quantity := 1
			if n == 2 {
				quantity = 1_000 // more than there are: the checkout cancels it
			}
			body := fmt.Sprintf(`{"id": "O-%s-%d", "customer_id": "%s", "country": "France",
				"lines": [{"stock_code": "MUG-1", "quantity": %d, "unit_price": "4.25"}],
				"delivery": {"name": "%[5]s name", "email": "%[5]s@example.org", "street": "1 %[5]s street", "city": "%[5]s city", "phone": "%[5]s phone"}}`,
				customer, n, customer, quantity, mark)
			key := "Idempotency-Key: place-" + customer + fmt.Sprint(n)
			s.post(r.t, "/v1/orders", body, key, "X-Durability: kafka")
			if again := s.post(r.t, "/v1/orders", body, key); again["duplicate"] != true {
				r.t.Errorf("a repeated order: %v", again)
			}
		}
		resp, text := roundTrip(r.t, request(r.t, http.MethodPost, "http://"+s.http+"/v1/orders", fmt.Sprintf(`{"id": "O-bad", "country": "France",
			"lines": [{"stock_code": "MUG-1", "quantity": 1, "unit_price": "1"}], "delivery": {"name": "%s"}}`, mark)))
		if resp.StatusCode != http.StatusBadRequest || strings.Contains(text, mark) {
			r.t.Errorf("a delivery without a customer: %s: %s", resp.Status, text)
		}
	}
	s.caughtUp(r.t)
}

// refused wants new personal data of the erased customer to be refused, and an order without to be taken.
func (r *erasureRig) refused(s *serving) {
	r.t.Helper()
	const order = `{"id": "O-new", "customer_id": "` + anna + `", "country": "France", "lines": [{"stock_code": "MUG-1", "quantity": 1, "unit_price": "1"}]`
	resp, text := roundTrip(r.t, request(r.t, http.MethodPost, "http://"+s.http+"/v1/orders", order+`, "delivery": {"name": "`+annasMark+`"}}`))
	if resp.StatusCode != http.StatusGone || strings.Contains(text, annasMark) {
		r.t.Errorf("personal data of an erased customer: %s: %s", resp.Status, text)
	}
	if o := s.post(r.t, "/v1/orders", order+"}"); o["id"] != "O-new" {
		r.t.Errorf("an order without personal data: %v", o)
	}
}

// expect wants each customer's mark in so many orders as the server answers them and as Redis holds them, and nowhere else.
func (r *erasureRig) expect(s *serving, when string, annas, berts int) {
	r.t.Helper()
	s.caughtUp(r.t)
	answered := map[string]int{}
	for _, customer := range []string{anna, bert} {
		want := map[string]int{anna: annas, bert: berts}[customer]
		mark := map[string]string{anna: annasMark, bert: bertsMark}[customer]
		for n := range 3 {
			id := fmt.Sprintf("O-%s-%d", customer, n)
			order := s.get(r.t, "/v1/orders/"+id)
			stream := s.get(r.t, "/v1/streams/order/"+id)
			created := stream["events"].([]any)[0].(map[string]any)
			body, _ := json.Marshal([]any{order, created["payload_json"]}) // it was decoded just now
			hits := bytes.Count(body, []byte(mark))
			if hits > 0 {
				answered[customer]++
			}
			if hits != map[bool]int{true: 10, false: 0}[want > 0] || order["erased"] != (want == 0) || created["erased"] != (want == 0) {
				if want == 0 {
					r.hits += hits
				}
				r.t.Errorf("%s: order %s has its mark %d times, erased: %v in the model, %v in the log", when, id, hits, order["erased"], created["erased"])
			}
		}
	}
	if answered[anna] != annas || answered[bert] != berts {
		r.t.Errorf("%s: orders with a delivery: %v, want %d of anna and %d of bert", when, answered, annas, berts)
	}
	found := r.search(s)
	for where, marks := range found {
		if strings.HasPrefix(where, "redis ") {
			if marks[annasMark] > 0 && annas == 0 {
				r.hit(where, when, map[string]int{annasMark: marks[annasMark]})
			}
			continue
		}
		r.hit(where, when, marks)
	}
	inRedis := map[string]int{}
	for where, marks := range found {
		if strings.HasPrefix(where, "redis ") {
			for mark := range marks {
				inRedis[mark]++
			}
		}
	}
	if (inRedis[annasMark] > 0) != (annas > 0) || (inRedis[bertsMark] > 0) != (berts > 0) {
		r.t.Errorf("%s: keys of redis with marks: %v; the search must find what is there", when, inRedis)
	}
}

// found is how often a place has each mark.
type found map[string]map[string]int

// in returns what looks for the marks in a place. kind is that of the place.
func (r *erasureRig) in(f found) func(kind, where string, body []byte) {
	return func(kind, where string, body []byte) {
		r.looked++
		r.opened[kind] += bytes.Count(body, []byte(openMark))
		for _, mark := range []string{annasMark, bertsMark} {
			if n := bytes.Count(body, []byte(mark)); n > 0 {
				if f[where] == nil {
					f[where] = map[string]int{}
				}
				f[where][mark] += n
			}
		}
	}
}

// search looks for both marks everywhere and returns the places that have any, with how often.
func (r *erasureRig) search(s *serving) found {
	r.t.Helper()
	f := r.searchFolders()
	look := r.in(f)
	look("logs", "logs", []byte(r.logs.String()+s.errText()))
	r.searchKafka(s, look)
	r.searchClickHouse(look)
	r.searchRedis(look)
	return f
}

// searchFolders looks at what is on disk.
func (r *erasureRig) searchFolders() found {
	r.t.Helper()
	f := found{}
	folders := map[string]string{
		"data folder": r.data, "snapshots": filepath.Join(r.data, "snapshots"), "keys": r.keys, "kafka": r.kafka, "clickhouse": r.click,
	}
	for name, dir := range r.copies {
		folders["backup "+name] = dir
	}
	for kind, dir := range folders {
		searchFolder(r.t, kind, dir, r.in(f))
	}
	return f
}

func searchFolder(t *testing.T, kind, dir string, look func(kind, where string, body []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			if os.IsNotExist(err) {
				return nil // merged away meanwhile
			}
			return err
		}
		body, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		look(kind, kind+" "+path, body)
		return err
	})
	if err != nil {
		t.Fatalf("search %s: %v", kind, err)
	}
}

// searchKafka looks at the records as consumers get them, whatever the broker keeps them in.
func (r *erasureRig) searchKafka(s *serving, look func(kind, where string, body []byte)) {
	r.t.Helper()
	events := readTopic(r.t, r.servers.kafka, r.servers.topic(), lsn(s.status(r.t).Mirror.Mirrored))
	for _, e := range events {
		look("topic", "topic", e.payload)
		look("topic", "topic", e.record.Key)
		for _, h := range e.record.Headers {
			look("topic", "topic header "+h.Key, h.Value)
		}
	}
}

// searchClickHouse looks at every row, for parts on disk are compressed.
func (r *erasureRig) searchClickHouse(look func(kind, where string, body []byte)) {
	r.t.Helper()
	tables := r.servers.sql(r.t, "SELECT name FROM system.tables WHERE database = currentDatabase()")
	if len(tables) < 4 {
		r.t.Fatalf("clickhouse has the tables %v", tables)
	}
	for _, table := range tables {
		for _, row := range r.servers.sql(r.t, "SELECT * FROM `"+table+"`") {
			look("clickhouse tables", "clickhouse table "+table, []byte(row))
		}
	}
}

// searchRedis looks at all keys of the server, those of other generations and of what is parked too.
func (r *erasureRig) searchRedis(look func(kind, where string, body []byte)) {
	r.t.Helper()
	client := dialRedis(r.t, r.servers.redis)
	for _, key := range client.do(r.t, "KEYS", "*") {
		look("redis", "redis "+key, []byte(key))
		var values []string
		switch kind := client.do(r.t, "TYPE", key)[0]; kind {
		case "string":
			values = client.do(r.t, "GET", key)
		case "hash":
			values = client.do(r.t, "HGETALL", key)
		case "zset":
			values = client.do(r.t, "ZRANGE", key, "0", "-1")
		case "set":
			values = client.do(r.t, "SMEMBERS", key)
		default:
			r.t.Errorf("redis key %s is a %s, which this test cannot read", key, kind)
		}
		look("redis", "redis "+key, []byte(strings.Join(values, "\n")))
	}
}

// digest returns the digest of the Redis model as a rebuild finds it.
func (r *erasureRig) digest() string {
	r.t.Helper()
	rebuilt := decoded[object](r.t, done(r.t, "rebuild", "--json", "--data", r.data, "shop-redis"))
	digests, _ := rebuilt["digest"].([]any)
	if rebuilt["equal"] != true || len(digests) != 2 {
		r.t.Fatalf("rebuild: %v", rebuilt)
	}
	return fmt.Sprint(digests[0])
}

// sound wants verify to find nothing.
func (r *erasureRig) sound() {
	r.t.Helper()
	if report := verify(r.t, r.data, r.servers.flags()...); len(report.Faults) > 0 {
		r.t.Errorf("verify: %v", report.Faults)
	}
}

// backup makes one of the running server. The keys are not in it.
func (r *erasureRig) backup(name string) string {
	r.t.Helper()
	to := filepath.Join(r.t.TempDir(), "backup")
	done(r.t, "backup", "--data", r.data, "--to", to)
	r.copies[name] = to
	return to
}

// oldBackup restores a backup from before the erasure and serves it. With the keys of today the erased customer stays
// erased; without keys nothing is served, for what cannot be opened is not erased.
func (r *erasureRig) oldBackup(from string) {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "restored")
	done(r.t, "restore", "--from", from, "--data", dir)
	r.copies["restored"] = dir
	apart := []string{"--site", r.servers.site, "--kafka", "off", "--redis", "embedded", "--clickhouse", "off", "--source", "store"}
	a := tributary(r.t, slices.Concat([]string{"serve", "--data", dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--keys", r.t.TempDir()}, apart)...)
	if a.code != 1 || !strings.Contains(a.stderr, "tributary keys restore") {
		r.t.Errorf("a start without the keys: exit code %d: %s", a.code, tail(a.stderr, 500))
	}
	s := serve(r.t, dir, slices.Concat([]string{"--keys", r.keys}, apart)...)
	for id, mark := range map[string]string{"O-" + anna + "-0": annasMark, "O-" + bert + "-0": bertsMark} {
		var order object
		eventually(r.t, "order "+id+" is in the model", func() bool {
			resp, body := roundTrip(r.t, request(r.t, http.MethodGet, "http://"+s.http+"/v1/orders/"+id, ""))
			order = nil
			return resp.StatusCode == http.StatusOK && json.Unmarshal([]byte(body), &order) == nil
		})
		body := fmt.Sprint(order)
		if mark == annasMark {
			r.hits += strings.Count(body, mark)
		}
		if (order["erased"] == true) != (mark == annasMark) || strings.Contains(body, mark) == (mark == annasMark) {
			r.t.Errorf("order %s from a backup: %v", id, slices.Sorted(maps.Keys(order)))
		}
	}
	if e := s.get(r.t, "/v1/subjects/"+anna); e["state"] != "done" || e["key_destroyed"] != true {
		r.t.Errorf("the erasure, in a backup from before it: %v", e)
	}
	s.stop(r.t)
	r.logs.WriteString(s.errText())
}

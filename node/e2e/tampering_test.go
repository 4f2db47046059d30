package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestTampering changes a Redis key, a ClickHouse row, a Kafka record and a block of the log by hand, one after the other:
// verify ends with code 4 and names each.
func TestTampering(t *testing.T) {
	servers := realOnes(t)
	s := serve(t, t.TempDir(), servers.flags()...)
	fiveOrders(t, s)
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Fatalf("verify, before anything was changed: %v", r.Faults)
	}

	t.Run("redis", func(t *testing.T) { tamperRedis(t, s, servers) })
	t.Run("clickhouse", func(t *testing.T) { tamperClickHouse(t, s, servers) })
	t.Run("kafka", func(t *testing.T) { tamperKafka(t, s, servers) })
}

// fiveOrders places orders T-0 to T-4.
func fiveOrders(t *testing.T, s *serving) {
	t.Helper()
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	for n := range 5 {
		s.post(t, "/v1/orders", fmt.Sprintf(`{"id": "T-%d", "customer_id": "17850", "country": "France",
			"lines": [{"stock_code": "MUG-1", "quantity": 2, "unit_price": "4.25"}]}`, n))
	}
	s.caughtUp(t)
}

// named wants a verification to find a fault that has all of some words, and faults of that part alone.
func named(t *testing.T, s *serving, part string, words ...string) {
	t.Helper()
	faults := verify(t, s.data).Faults
	if !slices.ContainsFunc(faults, func(f string) bool { return has(f, words) }) {
		t.Errorf("verify found %q; want a fault that names %q", faults, words)
	}
	for _, f := range faults {
		if !strings.HasPrefix(f, part+": ") {
			t.Errorf("verify found %q, though only %s was changed", f, part)
		}
	}
}

// has reports whether a text has all of some words.
func has(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// mended wants a rebuild to bring a read model back, and to say that it was not right.
func mended(t *testing.T, s *serving, projection string) {
	t.Helper()
	if a := tributary(t, "rebuild", projection, "--data", s.data); a.code != 4 {
		t.Errorf("rebuild of a changed %s: exit code %d, want 4; stderr:\n%s", projection, a.code, tail(a.stderr, 2000))
	}
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Errorf("verify, after %s was rebuilt: %v", projection, r.Faults)
	}
}

func tamperRedis(t *testing.T, s *serving, servers realServers) {
	client := dialRedis(t, servers.redis)
	client.do(t, "HSET", client.modelKey(t, "order:T-1"), "total", "0.01")
	named(t, s, "redis", "order:T-1", "total")
	client.do(t, "HSET", client.modelKey(t, "order:T-1"), "total", "8.5")
	client.do(t, "DEL", client.modelKey(t, "order:T-2"))
	named(t, s, "redis", "order:T-2")
	mended(t, s, "shop-redis")
	client.do(t, "SET", client.modelKey(t, "order:forged"), "x")
	named(t, s, "redis", "order:forged")
	mended(t, s, "shop-redis")
}

func tamperClickHouse(t *testing.T, s *serving, servers realServers) {
	position := servers.sql(t, "SELECT position FROM order_lines WHERE document = 'T-3'")[0]
	servers.sql(t, "ALTER TABLE order_lines UPDATE quantity = 200 WHERE document = 'T-3' SETTINGS mutations_sync = 2")
	named(t, s, "clickhouse", "order_lines: row", "position "+position+" is changed", "200")
	mended(t, s, "shop-clickhouse")
	servers.sql(t, "DELETE FROM payments WHERE position = (SELECT max(position) FROM payments)")
	named(t, s, "clickhouse", "payments: row", "missing")
	mended(t, s, "shop-clickhouse")
	servers.sql(t, "INSERT INTO stock_movements (position, row, stock_code, kind, on_hand) VALUES (1, 7, 'MUG-1', 'received', 5)")
	named(t, s, "clickhouse", "stock_movements: row 7 of position 1", "should not be there")
	mended(t, s, "shop-clickhouse")
	servers.sql(t, "INSERT INTO sales_monthly SELECT * FROM sales_monthly LIMIT 1")
	named(t, s, "clickhouse", "sales_monthly: disagrees")
	mended(t, s, "shop-clickhouse")
}

// TestTamperedTables adds a row to each table of the ClickHouse model by hand: verify names the table.
func TestTamperedTables(t *testing.T) {
	servers := realOnes(t)
	s := serve(t, t.TempDir(), servers.flags()...)
	fiveOrders(t, s)
	// Those that are kept by views come first: a row more in another table is a row more in them.
	tables := servers.sql(t, `SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'
		AND name NOT LIKE 'projection_%' AND name != 'schema_migrations' ORDER BY engine = 'MergeTree', name`)
	if len(tables) != 6 {
		t.Fatalf("the model's tables are %q, want 6", tables)
	}
	tells := func(table string) bool {
		named := "clickhouse: " + servers.database + "." + table + ": "
		return slices.ContainsFunc(verify(t, s.data).Faults, func(f string) bool { return strings.HasPrefix(f, named) })
	}
	for _, table := range tables {
		if tells(table) {
			t.Errorf("verify names %s before it was changed", table)
		}
		servers.sql(t, "INSERT INTO "+table+" SELECT * FROM "+table+" LIMIT 1")
		if !tells(table) {
			t.Errorf("verify does not name %s, which has a row more", table)
		}
	}
}

// tamperKafka publishes an event a second time, and then once more with another payload.
func tamperKafka(t *testing.T, s *serving, servers realServers) {
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.kafka), kgo.DefaultProduceTopic(servers.topic()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	victim := readTopic(t, servers.kafka, servers.topic(), 3)[2]
	produce := func(value []byte) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		record := kgo.Record{Key: victim.record.Key, Value: value, Headers: victim.record.Headers, Timestamp: victim.record.Timestamp}
		if err := client.ProduceSync(ctx, &record).FirstErr(); err != nil {
			t.Fatalf("produce a forged record: %v", err)
		}
	}
	dot := header(victim.record, "tributary-dot")
	produce(victim.record.Value)
	named(t, s, "kafka", dot)
	if r := verify(t, s.data); r.Kafka.Duplicates != 1 || r.Kafka.Missing != 0 {
		t.Errorf("kafka with a record twice: %+v", r.Kafka)
	}
	produce(append(bytes.Clone(victim.record.Value), "forged"...))
	named(t, s, "kafka", dot, "is changed")
}

// TestTamperedLog flips one bit of an event in the log's files, while nothing runs: in a table, as a stop in good order
// leaves it, and in Pebble's own log, as kill -9 does.
func TestTamperedLog(t *testing.T) {
	t.Run("table", func(t *testing.T) { tamperLog(t, "*.sst", (*serving).stop, "") })
	// Damage before the last 32 KiB of Pebble's log is told by Pebble, which then opens nothing; later damage by the mark.
	t.Run("log", func(t *testing.T) {
		tamperLog(t, "*.log", func(s *serving, _ *testing.T) { s.kill() }, "corrupt: pebble: error when replaying WAL")
	})
}

// tamperLog flips a bit of the log's files and verifies, which must name the entries, or say instead why it opens nothing.
func tamperLog(t *testing.T, files string, end func(*serving, *testing.T), instead string) {
	s := serve(t, t.TempDir(), "--clickhouse", "off")
	fiveOrders(t, s)
	// The store's mark of how far its log goes is up to 50 ms behind, and it alone tells a damaged end from a clean one.
	time.Sleep(time.Second)
	end(s, t)
	flipBit(t, filepath.Join(s.data, "store", "log", files), []byte("T-2"))
	a := tributary(t, "verify", "--json", "--data", s.data)
	if a.code != 4 {
		t.Errorf("verify of a damaged log: exit code %d, want 4; stderr:\n%s", a.code, tail(a.stderr, 3000))
	}
	if instead != "" && strings.Contains(a.stderr, instead) {
		return
	}
	if text := a.stdout; !namesEntries.MatchString(text) || !strings.Contains(text, `"verified":false`) {
		t.Errorf("verify of a damaged log says %s\nwant a fault of the log that names its entries", tail(text, 2000))
	}
	t.Log(tail(a.stdout, 2000))
}

// namesEntries matches a fault of the log that says which entries it is about.
var namesEntries = regexp.MustCompile(`"log: [^"]*\blsn \d+`)

// flipBit changes a bit at the first place where text stands in one of the files that match a pattern.
func flipBit(t *testing.T, pattern string, text []byte) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, text); at >= 0 {
			content[at] ^= 1
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Logf("flipped a bit of %s, byte %d of %d", path, at, len(content))
			return
		}
	}
	t.Fatalf("none of %q has the text %q", paths, text)
}

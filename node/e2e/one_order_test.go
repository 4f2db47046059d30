package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// TestOneOrder follows one order through real servers: POST, GET, and then what a stranger finds in Redis, in ClickHouse
// and in Kafka; with projections that read from the store, and with projections that read from Kafka.
func TestOneOrder(t *testing.T) {
	for _, source := range []string{"store", "kafka"} {
		t.Run(source, func(t *testing.T) { oneOrder(t, source) })
	}
}

func oneOrder(t *testing.T, source string) {
	servers := realOnes(t)
	s := serve(t, t.TempDir(), append(servers.flags(), "--source", source)...)
	s.caughtUp(t)
	if r := s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 10}`, "X-Durability: kafka"); r["durability"] != "kafka" {
		t.Errorf("receipt of a command that was to be in Kafka: %v", r)
	}
	receipt := s.post(t, "/v1/orders", `{"id": "A-1", "customer_id": "17850", "country": "France",
		"lines": [{"stock_code": "MUG-1", "description": "Mug", "quantity": 3, "unit_price": "4.255"}]}`, "Idempotency-Key: my-first-order")
	if receipt["stream"] != "default/order/A-1" || receipt["version"] != "1" || receipt["duplicate"] != false {
		t.Errorf("receipt: %v", receipt)
	}
	position, _ := receipt["position"].(string)
	order := s.get(t, "/v1/orders/A-1", "X-Read-After: "+position)
	if order["customer_id"] != "17850" || order["total"] != "12.765" {
		t.Errorf("the order just after its receipt: %v", order)
	}
	again := s.post(t, "/v1/orders", `{"id": "A-1", "customer_id": "17850", "country": "France",
		"lines": [{"stock_code": "MUG-1", "description": "Mug", "quantity": 3, "unit_price": "4.255"}]}`, "Idempotency-Key: my-first-order")
	if again["duplicate"] != true || again["position"] != position {
		t.Errorf("the receipt of the repeated command: %v, the first had position %s", again, position)
	}

	var log []object
	shipped := ""
	s.events(t, "follow=true&system=true", func(e object) bool {
		log = append(log, e)
		if e["type"] == "order.shipped.v1" {
			shipped, _ = e["position"].(string)
		}
		return shipped != ""
	})
	order = s.get(t, "/v1/orders/A-1", "X-Read-After: "+shipped)
	if order["status"] != "shipped" {
		t.Errorf("after checkout the order is %v, want shipped", order["status"])
	}
	sales := s.get(t, "/v1/sales/by-country", "X-Read-After: "+shipped)
	if rows, _ := json.Marshal(sales["rows"]); !strings.Contains(string(rows), `"net":"12.765"`) {
		t.Errorf("sales by country: %s", rows)
	}

	inRedis(t, servers)
	inClickHouse(t, servers)
	inKafka(t, servers, log)

	s.stop(t)
	if report := verify(t, s.data, servers.flags()...); len(report.Faults) > 0 {
		t.Errorf("verify: %v", report.Faults)
	}
}

func inRedis(t *testing.T, servers realServers) {
	t.Helper()
	client := dialRedis(t, servers.redis)
	got := client.hash(t, client.modelKey(t, "order:A-1"))
	want := map[string]string{
		"id": "A-1", "customer_id": "17850", "status": "shipped", "country": "France", "currency": "GBP", "total": "12.765",
		"line_count": "1", "version": "3", "lines": `[{"number":1,"stock_code":"MUG-1","description":"Mug","quantity":3,"unit_price":"4.255"}]`,
	}
	for _, field := range slices.Sorted(maps.Keys(want)) {
		if got[field] != want[field] {
			t.Errorf("redis, order:A-1, %s: %q, want %q", field, got[field], want[field])
		}
	}
	if stock := client.hash(t, client.modelKey(t, "stock:MUG-1")); stock["on_hand"] != "7" || stock["reserved"] != "0" {
		t.Errorf("redis, stock:MUG-1: %v, want 7 on hand and none reserved", stock)
	}
}

func inClickHouse(t *testing.T, servers realServers) {
	t.Helper()
	for _, c := range []struct{ statement, want string }{
		{"SELECT order_id, status, total, lines, customer_id FROM orders", "A-1\tshipped\t12.765\t1\t17850"},
		{"SELECT document, stock_code, quantity, unit_price, net, sign FROM order_lines", "A-1\tMUG-1\t3\t4.255\t12.765\t1"},
		{"SELECT country, net, units FROM sales_by_country", "France\t12.765\t3"},
		{"SELECT stock_code, sum(on_hand), sum(reserved) FROM stock_movements GROUP BY stock_code", "MUG-1\t7\t0"},
		{"SELECT kind, amount FROM payments WHERE kind = 'captured'", "captured\t12.765"},
	} {
		if got := strings.Join(servers.sql(t, c.statement), "\n"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.statement, got, c.want)
		}
	}
}

// inKafka compares the topic with the log as the server lists it.
func inKafka(t *testing.T, servers realServers, log []object) {
	t.Helper()
	events := readTopic(t, servers.kafka, servers.topic(), uint64(len(log)))
	if events[0].fences == 0 {
		t.Error("no fence stands before the first event")
	}
	for i, e := range events[:len(log)] {
		want := log[i]
		stream := "default/" + want["category"].(string) + "/" + want["stream_id"].(string)
		if e.kind != want["type"] || e.position != want["position"] || e.stream != stream {
			t.Errorf("record %d is %s of %s at %s, the log has %s of %s at %s", i, e.kind, e.stream, e.position, want["type"], stream, want["position"])
		}
		if crc := canonicalCRC(t, e.record); crc != header(e.record, "tributary-crc") {
			t.Errorf("record %d: by docs/topic.md its frame has the checksum %s, its header says %s", i, crc, header(e.record, "tributary-crc"))
		}
	}
	created := slices.IndexFunc(events, func(e topicEvent) bool { return e.kind == "order.created.v1" })
	var order commercev1.OrderCreated
	if err := proto.Unmarshal(events[created].payload, &order); err != nil {
		t.Fatalf("decode order.created.v1: %v", err)
	}
	if order.GetCustomerId() != "17850" || len(order.GetLines()) != 1 || order.GetLines()[0].GetUnitPrice() != "4.255" {
		t.Errorf("order.created.v1 in the topic: %v", &order)
	}
	if id := header(events[created].record, "tributary-command-id"); id != "my-first-order" {
		t.Errorf("the order's command id in the topic is %q", id)
	}
}

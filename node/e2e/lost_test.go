package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLostModels shows P4: it empties Redis and drops the database of ClickHouse under a running server. Both are noticed and filled
// again by themselves, and until then no answer is wrong.
func TestLostModels(t *testing.T) {
	servers := realOnes(t)
	s := serve(t, t.TempDir(), servers.flags()...)
	fiveOrders(t, s)

	client := dialRedis(t, servers.redis)
	client.do(t, "FLUSHALL")
	eventually(t, "the order is answered again", func() bool {
		resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/orders/T-2", ""))
		switch {
		case resp.StatusCode == http.StatusOK && strings.Contains(body, `"status":"shipped"`) && strings.Contains(body, `"total":"8.5"`):
			return true
		case resp.StatusCode != http.StatusServiceUnavailable:
			t.Fatalf("while Redis is filled again an order is answered with %s: %s", resp.Status, body)
		}
		return false
	})

	servers.sql(t, "DROP DATABASE "+servers.database+" SYNC")
	eventually(t, "sales are answered again", func() bool {
		resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/sales/by-country", ""))
		switch {
		case resp.StatusCode == http.StatusOK && strings.Contains(body, `"net":"42.5"`):
			return true
		case resp.StatusCode != http.StatusServiceUnavailable:
			t.Fatalf("while ClickHouse is filled again sales are answered with %s: %s", resp.Status, body)
		}
		return false
	})

	s.caughtUp(t)
	if r := verify(t, s.data); len(r.Faults) > 0 {
		t.Errorf("verify, after both models were lost: %v", r.Faults)
	}
	s.stop(t)
}

// TestRebuildHasNoSideEffects shows P8: while read models are rebuilt, no saga issues a command, and nothing is appended.
func TestRebuildHasNoSideEffects(t *testing.T) {
	s := serve(t, t.TempDir())
	fiveOrders(t, s)
	log, outbox := eventCounts(t, s.data), s.get(t, "/v1/outbox")
	for _, name := range []string{"shop-redis", "shop-clickhouse"} {
		done(t, "rebuild", name, "--data", s.data)
	}
	if diff := cmp.Diff(log, eventCounts(t, s.data)); diff != "" {
		t.Errorf("events by type, - before the rebuilds, + after them:\n%s", diff)
	}
	if diff := cmp.Diff(outbox, s.get(t, "/v1/outbox")); diff != "" {
		t.Errorf("outbox, - before the rebuilds, + after them:\n%s", diff)
	}
	if messages, _ := outbox["messages"].([]any); len(messages) == 0 {
		t.Error("the sagas of five orders have sent nothing")
	}
	s.stop(t)
}

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// A site is killed by -9 while it brings orders to their end, and its folder is emptied, topic and all. Begun again, and asked at once
// and again and again, it refuses nothing for good that is decided on stock, for it does not know yet what it has of it; and no order is
// cancelled for want of stock that there is. Then each order that it took, in this life of its log or the one before, has been shipped once, and
// no unit stays held. Shows R33.
func TestEmptiedSiteRefusesNothingForGood(t *testing.T) {
	s := embeddedSites(t)
	a, _ := s.both(t)
	s.equal(t)
	// Much comes before the stock, so that this takes its time to come back.
	const batches, each = 60, 300
	bulk := strings.TrimSuffix(strings.Repeat(`{"type": "account.opened.v1", "payload_json": "{}"},`, each), ",")
	for i := range batches {
		a.post(t, "/v1/store/append", fmt.Sprintf(`{"request_id": "bulk-%d", "appends": [{"category": "account", "id": "%d", "events": [%s]}]}`, i, i, bulk))
	}
	a.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 1000}`, "X-Durability: peer")
	var orders []string
	// order places one more; the answer tells nothing more where it is not taken.
	order := func() (*http.Response, string) {
		t.Helper()
		id := fmt.Sprintf("E-%d", len(orders))
		resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+a.http+"/v1/orders", fmt.Sprintf(`{"id": %q, "customer_id": "17850", "country": "France",
			"lines": [{"stock_code": "MUG-1", "description": "Mug", "quantity": 1, "unit_price": "4.25"}]}`, id), "X-Durability: peer"))
		if resp.StatusCode == http.StatusCreated {
			orders = append(orders, id)
		}
		return resp, body
	}
	for range 20 {
		if resp, body := order(); resp.StatusCode != http.StatusCreated {
			t.Fatalf("an order is answered with %s: %s", resp.Status, body)
		}
	}
	a.kill()
	if err := os.RemoveAll(s.data[0]); err != nil {
		t.Fatal(err)
	}
	a = s.start(t, 0)

	waited, adjusted, moved := 0, 0, 0
	ask := func(path, body string) bool {
		t.Helper()
		resp, answer := roundTrip(t, request(t, http.MethodPost, "http://"+a.http+"/v1/stock/MUG-1/"+path, body))
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(answer, "earlier life"):
			waited++
		case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable:
			t.Fatalf("%s is answered with %s: %s", path, resp.Status, answer)
		}
		return resp.StatusCode == http.StatusOK
	}
	eventually(t, "the site decides on stock again", func() bool {
		if ask("adjust", `{"delta": -1, "reason": "broken"}`) {
			adjusted++
		}
		if ask("move-rights", fmt.Sprintf(`{"to_site": %q, "quantity": 1}`, s.names[1])) {
			moved++
		}
		if len(orders) < 60 {
			if resp, body := order(); resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("an order is answered with %s: %s", resp.Status, body)
			}
		}
		return adjusted > 0 && moved > 0
	})
	if waited == 0 {
		t.Fatal("all was back before anything was asked: the test shows nothing; give it more to bring back")
	}
	t.Logf("%d commands on stock had to wait, %d orders were taken", waited, len(orders))
	for _, id := range orders {
		eventually(t, "order "+id+" is shipped", func() bool {
			resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+a.http+"/v1/orders/"+id, ""))
			if strings.Contains(body, `"status":"cancelled"`) {
				t.Fatalf("order %s is cancelled: %s", id, body)
			}
			return resp.StatusCode == http.StatusOK && strings.Contains(body, `"status":"shipped"`)
		})
	}
	s.equal(t)
	s.sameStock(t, "MUG-1")
	if got, want := a.get(t, "/v1/stock/MUG-1"), fmt.Sprint(1000-adjusted-len(orders)); got["on_hand"] != want || got["reserved"] != "0" {
		t.Errorf("after %d orders and %d units less there is %v, want %s on hand and none reserved", len(orders), adjusted, got, want)
	}
	if parked, _ := a.get(t, "/v1/parked")["instances"].([]any); len(parked) > 0 {
		t.Errorf("parked are %v, want none", parked)
	}
}

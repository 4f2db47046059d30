package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// types returns the types of a stream's events that count, without their versions.
func (s *serving) types(t *testing.T, stream string) (types []string) {
	t.Helper()
	resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/streams/"+stream, ""))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d: %s", resp.StatusCode, body)
	}
	list, _ := decoded[object](t, body)["events"].([]any)
	for _, e := range list {
		if event := e.(map[string]any); event["voided"] != true {
			types = append(types, strings.TrimSuffix(fmt.Sprint(event["type"]), ".v1"))
		}
	}
	return types
}

// checkoutEnd says how the checkout of an order has ended at a site, as its last step has it.
func (s *serving) checkoutEnd(t *testing.T, id, site string) string {
	t.Helper()
	resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/streams/checkout."+site+"/"+id, ""))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d: %s", resp.StatusCode, body)
	}
	list, _ := decoded[object](t, body)["events"].([]any)
	if len(list) == 0 {
		return ""
	}
	payload, err := base64.StdEncoding.DecodeString(fmt.Sprint(list[len(list)-1].(map[string]any)["payload"]))
	if err != nil {
		t.Fatal(err)
	}
	outcome, _ := decoded[object](t, string(payload))["complete"].(string)
	return outcome
}

// Two sites that do not hear of each other are given orders of one customer under one id, and both ship theirs. When they meet,
// the first order stands, paid and with its goods gone; the other is void, its goods are back and its money is paid back. No
// checkout is parked or stays open, and an order that comes later is sold at both sites. Orders and stock read the same at both.
// Shows R11 and P9.
func TestOneIDAtTwoSites(t *testing.T) {
	s := newSites(t)
	ports := freePorts(t, 2)
	for i := range s.flags { // a broker that dies with its site
		_, port, _ := strings.Cut(ports[i], ":")
		s.flags[i] = []string{
			"--site", s.names[i], "--kafka-port", port, "--clickhouse", "off", "--peer", fmt.Sprintf("%s=%s,%s", s.names[1-i], s.grpc[1-i], ports[1-i]),
		}
	}
	a, b := s.both(t)
	for _, at := range s.at {
		at.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 2}`)
	}
	s.equal(t)
	shipped := func(at *serving, id, site string) {
		t.Helper()
		eventually(t, "order "+id+" is shipped by "+site, func() bool { return at.checkoutEnd(t, id, site) == "shipped" })
	}
	b.kill()
	a.order(t, "X-1")
	shipped(a, "X-1", s.names[0])
	a.kill()
	b = s.start(t, 1)
	b.order(t, "X-1")
	shipped(b, "X-1", s.names[1])

	a = s.start(t, 0)
	eventually(t, "the checkout of the void order has ended", func() bool { return b.checkoutEnd(t, "X-1", s.names[1]) == "void" })
	s.equal(t)
	a.order(t, "A-2")
	b.order(t, "B-2")
	b.order(t, "B-3")
	shipped(a, "A-2", s.names[0])
	shipped(b, "B-2", s.names[1])
	shipped(b, "B-3", s.names[1])
	s.equal(t)
	s.sameOrders(t, "X-1", "A-2", "B-2", "B-3")
	s.sameStock(t, "MUG-1")
	for _, at := range s.at {
		for stream, want := range map[string][]string{
			"order/X-1":                 {"order.created", "order.confirmed", "order.shipped"},
			"payment/X-1@" + s.names[0]: {"payment.authorized", "payment.captured"},
			"payment/X-1@" + s.names[1]: {"payment.authorized", "payment.captured", "payment.refunded"},
			"payment/X-1":               nil,
			"checkout/X-1":              nil,
		} {
			if got := at.types(t, stream); !slices.Equal(got, want) {
				t.Errorf("stream %s has %v at %s, want %v", stream, got, at.http, want)
			}
		}
		moved := map[string]int{}
		for _, kind := range at.types(t, "inventory/MUG-1") {
			moved[kind]++
		}
		if moved["inventory.confirmed"] != 5 || moved["inventory.returned"] != 1 || moved["inventory.reserved"] != 5 {
			t.Errorf("the stock has %v at %s, want five sales of which one came back", moved, at.http)
		}
		if parked := done(t, "parked", "list", "--addr", at.grpc); !strings.Contains(parked, "nothing is parked") {
			t.Errorf("at %s is parked:\n%s", at.http, parked)
		}
		if r := verify(t, at.data, "--part", "redis"); len(r.Faults) > 0 {
			t.Errorf("the read model at %s: %v", at.http, r.Faults)
		}
		sagas, _ := at.get(t, "/v1/status")["sagas"].([]any)
		for _, saga := range sagas {
			if open := saga.(map[string]any)["open"]; open != nil && open != "0" {
				t.Errorf("checkouts are open at %s: %v", at.http, saga)
			}
		}
	}
}

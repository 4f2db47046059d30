package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
)

// What was written at one site is read at the other by whoever brings the receipt's session token: over HTTP, by the Go client and
// by the command line; also what was sent home by the site that was asked. What does not come says how far the site is. Shows R14.
func TestReadAtAnotherSite(t *testing.T) {
	s := newSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--homed", "ledger")
	}
	a, b := s.both(t)
	s.agreed(t)
	a.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	for i, at := range []*serving{a, b, a, b} {
		id := fmt.Sprintf("O-%d", i)
		resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+at.http+"/v1/orders", fmt.Sprintf(`{"id": %q, "customer_id": "17850", "country": "France",
			"lines": [{"stock_code": "MUG-1", "description": "Mug", "quantity": 1, "unit_price": "4.25"}]}`, id)))
		token := resp.Header.Get("X-Session")
		if resp.StatusCode != http.StatusCreated || !strings.Contains(body, `"session":"`+token+`"`) || token == "" {
			t.Fatalf("order %s: %s, X-Session %q: %s", id, resp.Status, token, body)
		}
		other := map[*serving]*serving{a: b, b: a}[at]
		resp, body = roundTrip(t, request(t, http.MethodGet, "http://"+other.http+"/v1/orders/"+id, "", "X-Read-After: "+token))
		if resp.StatusCode != http.StatusOK {
			t.Errorf("order %s, read at the other site after %s: %s %s", id, token, resp.Status, body)
		}
		// What was read there was there, for whoever goes back.
		if resp, body = roundTrip(t, request(t, http.MethodGet, "http://"+at.http+"/v1/orders/"+id, "", "X-Read-After: "+resp.Header.Get("X-Session"))); resp.StatusCode != http.StatusOK {
			t.Errorf("order %s, read where it was placed after %s: %s %s", id, resp.Header.Get("X-Session"), resp.Status, body)
		}
	}

	// A stream that is written at the other site: its token comes back with the answer.
	for i := 0; ; i++ {
		stream := fmt.Sprint(i)
		if _, home := a.owner(t, stream); home != s.names[1] {
			continue
		}
		resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+a.http+"/v1/store/append", fmt.Sprintf(
			`{"appends": [{"category": "ledger", "id": %q, "events": [{"type": "ledger.booked.v1", "payload_json": "{}"}]}]}`, stream)))
		token := resp.Header.Get("X-Session")
		if resp.Header.Get("X-Site") != s.names[1] || !strings.Contains(token, s.names[1]) {
			t.Fatalf("sent home, it is answered with %v: %s", resp.Header, body)
		}
		if out := done(t, "events", "read", "--data", s.data[0], "--read-after", token, "--stream", "ledger/"+stream); !strings.Contains(out, "ledger.booked.v1") {
			t.Errorf("read where it was asked for, after %s: %s", token, out)
		}
		break
	}

	c, err := client.Dial(t.Context(), a.grpc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	there, err := client.Dial(t.Context(), b.grpc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	for range 5 {
		receipt, err := c.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("probe", "1"), Events: []eventstore.Event{{Type: "probe.sent.v1"}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		version, err := there.Version(client.ReadAfter(t.Context(), eventstore.Vector{}.With(receipt.Dot)), eventstore.Stream("probe", "1"))
		if err != nil || version != receipt.Streams[0].Last {
			t.Errorf("after %s the other site has version %d (%v), want %d", receipt.Dot, version, err, receipt.Streams[0].Last)
		}
	}

	for token, want := range map[string]struct {
		status int
		says   string
	}{
		"shard-00@" + s.names[0] + "/1/999999": {http.StatusGatewayTimeout, "has not come to 999999 yet"},
		"shard-00@" + s.names[1] + "/1/999999": {http.StatusConflict, "position is not of this log"},
		"shard-00@mars/1/1":                    {http.StatusBadRequest, "none of those known here"},
		"shard-00@" + s.names[0]:               {http.StatusBadRequest, "does not name an event"},
	} {
		resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+b.http+"/v1/orders/O-1", "", "X-Read-After: "+token))
		if resp.StatusCode != want.status || !strings.Contains(body, want.says) {
			t.Errorf("token %s is answered with %s: %s", token, resp.Status, body)
		}
	}
}

package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tributary-es/tributary/node"
)

// shopServer runs a node with the shop and nothing beside it, and returns where it listens.
func shopServer(t *testing.T, data string, shop node.Domain) (base string, stop func()) {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{
		Data: data, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: node.Off, Kafka: node.Off,
		Logger: slog.New(slog.DiscardHandler), Domains: []node.Domain{shop},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return "http://" + n.HTTPAddr(), stop
}

// answer is what a test reads of an answer: a receipt's fields, a problem's, a voucher's.
type answer struct {
	Status                              int `json:"-"`
	Code, Detail, Position, OrderID, Is string
	Total, Discount, VoucherCode        string
}

// call sends a request and reads the answer, of whatever kind it is.
func call(t *testing.T, method, url, body string) (a answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
		return a
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var fields map[string]any
	if err := errors.Join(err, json.Unmarshal(text, &fields)); err != nil {
		t.Errorf("%s %s: HTTP %d, %q: %v", method, url, resp.StatusCode, text, err)
	}
	said := func(name string) string { s, _ := fields[name].(string); return s }
	return answer{
		Status: resp.StatusCode, Code: said("code"), Detail: said("detail"), Position: said("position"), OrderID: said("order_id"),
		Is: said("status"), Total: said("total"), Discount: said("discount"), VoucherCode: said("voucher_code"),
	}
}

// mugs is the body of an order of so many mugs at 4.00; more is what else it says.
func mugs(id, customer string, n int, more string) string {
	return fmt.Sprintf(`{"id":%q,"customer_id":%q,"country":"France","lines":[{"stock_code":"MUG-1","quantity":%d,"unit_price":"4.00"}]%s}`, id, customer, n, more)
}

// TestRaceForAVoucher shows C5 over HTTP: of many orders that redeem one voucher at once, one gets it.
func TestRaceForAVoucher(t *testing.T) {
	base, _ := shopServer(t, t.TempDir(), node.Shop())
	if a := call(t, "POST", base+"/v1/stock/MUG-1/receive", `{"quantity":1000}`); a.Status != 200 {
		t.Fatalf("receive stock: %+v", a)
	}
	if a := call(t, "POST", base+"/v1/vouchers", `{"code":"SPRING","value":"5.00"}`); a.Status != 201 {
		t.Fatalf("create voucher: %+v", a)
	}
	const buyers = 40
	answers := make([]answer, buyers)
	var wg sync.WaitGroup
	for i := range buyers {
		wg.Go(func() {
			answers[i] = call(t, "POST", base+"/v1/orders", mugs(fmt.Sprintf("A-%d", i), fmt.Sprint(i%3), 2, `,"voucher_code":"SPRING"`))
		})
	}
	wg.Wait()
	winner, position := "", ""
	for i, a := range answers {
		switch {
		case a.Status == 201 && winner == "":
			winner, position = fmt.Sprintf("A-%d", i), a.Position
		case a.Status != 422 || a.Code != "voucher.redeemed":
			t.Errorf("order A-%d: %+v, want the one voucher given once and refused to all others", i, a)
		}
	}
	if a := call(t, "GET", base+"/v1/vouchers/SPRING", ""); a.Is != "redeemed" || a.OrderID != winner {
		t.Errorf("the voucher is %+v, want it redeemed by %s", a, winner)
	}
	if a := call(t, "GET", base+"/v1/orders/"+winner+"?read_after="+position, ""); a.Total != "8" || a.Discount != "5" || a.VoucherCode != "SPRING" {
		t.Errorf("the order is %+v, want a total of 8 and a discount of 5", a)
	}
	await(t, "the payment of what is left", func() error {
		resp, err := http.Get(base + "/v1/streams/payment/" + winner)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if want := `\"amount\":\"3\"`; err == nil && !strings.Contains(string(text), want) {
			err = fmt.Errorf("%s is not in %s", want, text)
		}
		return err
	})
}

// A cancelled order gives its voucher back, also after the server was stopped.
func TestVoucherOfACancelledOrder(t *testing.T) {
	data := t.TempDir()
	base, stop := shopServer(t, data, node.Shop())
	call(t, "POST", base+"/v1/vouchers", `{"code":"ONE","value":"1"}`)
	// There is no stock, so the checkout cancels it.
	if a := call(t, "POST", base+"/v1/orders", mugs("A-1", "", 1, `,"voucher_code":"ONE"`)); a.Status != 201 {
		t.Fatalf("place: %+v", a)
	}
	await(t, "the voucher to be open again", func() error {
		if a := call(t, "GET", base+"/v1/vouchers/ONE", ""); a.Is != "open" || a.OrderID != "" {
			return fmt.Errorf("it is %+v", a)
		}
		return nil
	})
	stop()
	base, _ = shopServer(t, data, node.Shop())
	call(t, "POST", base+"/v1/stock/MUG-1/receive", `{"quantity":10}`)
	if a := call(t, "POST", base+"/v1/orders", mugs("A-2", "", 1, `,"voucher_code":"ONE"`)); a.Status != 201 {
		t.Errorf("the voucher of a cancelled order: %+v, want it redeemed", a)
	}
	for body, want := range map[string]string{
		mugs("A-3", "", 1, `,"voucher_code":"ONE"`):                    "voucher.redeemed",
		mugs("A-3", "", 1, `,"voucher_code":"TWO"`):                    "voucher.not_found",
		mugs("A-3", "", 1, `,"voucher_code":"ONE","currency":"EUR"`):   "voucher.redeemed",
		mugs("A-3", "", 1, `,"voucher_code":"EUROS","currency":"GBP"`): "voucher.currency_differs",
	} {
		call(t, "POST", base+"/v1/vouchers", `{"code":"EUROS","value":"1","currency":"EUR"}`)
		if a := call(t, "POST", base+"/v1/orders", body); a.Code != want {
			t.Errorf("%s: %+v, want %s", body, a, want)
		}
	}
	if a := call(t, "POST", base+"/v1/vouchers/EUROS/withdraw", `{"reason":"a mistake"}`); a.Status != 200 {
		t.Errorf("withdraw: %+v", a)
	}
	if a := call(t, "POST", base+"/v1/orders", mugs("A-4", "", 1, `,"voucher_code":"EUROS","currency":"EUR"`)); a.Code != "voucher.withdrawn" {
		t.Errorf("a withdrawn voucher: %+v", a)
	}
	if a := call(t, "GET", base+"/v1/vouchers/NONE", ""); a.Status != 404 {
		t.Errorf("a voucher that is not there: %+v", a)
	}
}

// TestRaceForACreditLimit shows C5 over HTTP: of a customer's orders that come at once, as many are placed as fit.
func TestRaceForACreditLimit(t *testing.T) {
	shop := node.Shop()
	shop.Sagas = nil // so that orders stay open
	data := t.TempDir()
	base, stop := shopServer(t, data, shop)
	if a := call(t, "PUT", base+"/v1/customers/9/credit-limit", `{"limit":"100.00"}`); a.Status != 200 {
		t.Fatalf("set limit: %+v", a)
	}
	const buyers, fit = 40, 12 // of 8.00 each
	first := ""                // of the orders that were placed
	place := func(orders int, name, customer string) (accepted int) {
		answers := make([]answer, orders)
		var wg sync.WaitGroup
		for i := range orders {
			wg.Go(func() {
				answers[i] = call(t, "POST", base+"/v1/orders", mugs(fmt.Sprintf("%s-%d", name, i), customer, 2, ""))
			})
		}
		wg.Wait()
		for i, a := range answers {
			switch {
			case a.Status == 201:
				accepted++
				if first == "" {
					first = fmt.Sprintf("%s-%d", name, i)
				}
			case a.Status != 422 || a.Code != "customer.credit_limit_exceeded":
				t.Errorf("order %s-%d: %+v, want it placed or refused for the limit", name, i, a)
			}
		}
		return accepted
	}
	if n := place(buyers, "A", "9"); n != fit {
		t.Errorf("%d orders were placed, want %d", n, fit)
	}
	if n := place(10, "B", "10"); n != 10 {
		t.Errorf("%d of 10 orders of a customer without a limit were placed", n)
	}
	credit := func() object { return getObject(t, base+"/v1/customers/9/credit") }
	if c := credit(); c["limited"] != true || c["limit"] != "100" || c["open"] != "96" || c["currency"] != "GBP" {
		t.Errorf("credit is %v, want 96 of 100 GBP taken", c)
	}
	stop()
	base, _ = shopServer(t, data, shop)
	if c := credit(); c["open"] != "96" {
		t.Errorf("credit is %v after a restart, want 96 taken", c)
	}
	if a := call(t, "POST", base+"/v1/orders/"+first+"/cancel", `{"reason":"changed my mind"}`); a.Status != 200 {
		t.Errorf("cancel: %+v", a)
	}
	if n := place(10, "C", "9"); n != 1 {
		t.Errorf("%d orders were placed after one was cancelled, want 1", n)
	}
	if a := call(t, "POST", base+"/v1/orders", mugs("D-1", "9", 1, `,"currency":"EUR"`)); a.Code != "customer.credit_currency_differs" {
		t.Errorf("an order in another currency: %+v", a)
	}
	if a := call(t, "DELETE", base+"/v1/customers/9/credit-limit", ""); a.Status != 200 {
		t.Errorf("lift limit: %+v", a)
	}
	if n := place(10, "E", "9"); n != 10 {
		t.Errorf("%d of 10 orders were placed without a limit", n)
	}
	if c := credit(); c["limited"] != false || c["limit"] != "" {
		t.Errorf("credit is %v, want no limit", c)
	}
}

// While orders are shipped by the checkout, and so make room for others, the open ones are never above the limit: the log is
// replayed. It shows C5 where the rule and the sagas write at the same time.
func TestCreditLimitWhileOrdersShip(t *testing.T) {
	base, _ := shopServer(t, t.TempDir(), node.Shop())
	call(t, "POST", base+"/v1/stock/MUG-1/receive", `{"quantity":1000}`)
	call(t, "PUT", base+"/v1/customers/9/credit-limit", `{"limit":"20"}`)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 8 {
				a := call(t, "POST", base+"/v1/orders", mugs(fmt.Sprintf("A-%d-%d", w, i), "9", 1+(w+i)%3, ""))
				if a.Status != 201 && a.Code != "customer.credit_limit_exceeded" {
					t.Errorf("order A-%d-%d: %+v", w, i, a)
				}
			}
		})
	}
	wg.Wait()
	open := map[string]int{}
	sum, placed := 0, 0
	for _, e := range events(t, base+"/v1/events?categories=order") {
		id := e["stream_id"].(string)
		switch e["type"] {
		case "order.created.v1":
			var w, i int
			if _, err := fmt.Sscanf(id, "A-%d-%d", &w, &i); err != nil {
				t.Fatal(err)
			}
			open[id] = 4 * (1 + (w+i)%3)
			sum += open[id]
			placed++
		case "order.shipped.v1", "order.cancelled.v1":
			sum -= open[id]
		}
		if sum > 20 {
			t.Fatalf("at %v the open orders are worth %d, above the limit of 20", e["position"], sum)
		}
	}
	if placed == 0 {
		t.Error("no order was placed")
	}
}

type object = map[string]any

func getObject(t *testing.T, url string) (o object) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return o
}

// events reads a list of objects, one a line.
func events(t *testing.T, url string) (list []object) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
		list = append(list, o)
	}
}

// What others append under the tags of a voucher or a customer is passed over by the rules on these.
func TestTagsOfOthers(t *testing.T) {
	base, _ := shopServer(t, t.TempDir(), node.Shop())
	body := `{"appends":[{"category":"mine","id":"1","events":[{"type":"mine.x.v1","payload":"aGk=","tags":["voucher:SUMMER","credit:9","customer:9"]}]}]}`
	foreign := func() {
		t.Helper()
		if a := call(t, "POST", base+"/v1/store/append", body); a.Status != 201 {
			t.Fatalf("append: %+v", a)
		}
	}
	foreign()
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/stock/MUG-1/receive", `{"quantity":1000}`, 200},
		{"POST", "/v1/vouchers", `{"code":"SUMMER","value":"1"}`, 201},
		{"PUT", "/v1/customers/9/credit-limit", `{"limit":"100"}`, 200},
		{"POST", "/v1/orders", mugs("A-1", "9", 1, `,"voucher_code":"SUMMER"`), 201},
		{"POST", "/v1/vouchers/SUMMER/withdraw", `{"reason":"autumn"}`, 200},
		{"DELETE", "/v1/customers/9/credit-limit", "", 200},
	} {
		if a := call(t, c.method, base+c.path, c.body); a.Status != c.status {
			t.Errorf("%s %s: %+v, want %d", c.method, c.path, a, c.status)
		}
		foreign()
	}
}

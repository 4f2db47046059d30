package checkout_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
)

// BenchmarkCheckout takes orders of 20 lines from placed to shipped, over the store in memory: what deciding costs, with
// the sagas at work and without a disk.
func BenchmarkCheckout(b *testing.B) {
	const lines, codes = 20, 2_000
	s := newStage(b, checkout.Options{})
	for n := range codes {
		if err := s.do(inventory.Receive{Code: fmt.Sprint(20_000 + n), Quantity: 1 << 39, At: at}); err != nil {
			b.Fatal(err)
		}
	}
	r, stop := start(b, s, checkout.Saga(checkout.Options{}), s.bus)
	defer stop()
	b.ReportAllocs()
	n, began := 0, time.Now()
	for b.Loop() {
		p := order.Place{ID: fmt.Sprint(500_000 + n), CustomerID: "17850", Country: "France", Currency: "GBP", At: at}
		for l := range lines {
			code := fmt.Sprint(20_000 + (n*7+l*l*31)%codes)
			p.Lines = append(p.Lines, order.Line{Number: l + 1, StockCode: code, Description: "WHITE HANGING HEART T-LIGHT HOLDER", Quantity: 6, UnitPrice: gbp("2.55")})
		}
		if _, err := s.bus.Dispatch(context.Background(), commands.Meta{ID: "place/" + p.ID}, p); err != nil {
			b.Fatal(err)
		}
		n++
	}
	idle(b, s, r)
	// The benchmark's own clock stops when the last order is placed, not when it is shipped.
	b.ReportMetric(float64(n*lines)/time.Since(began).Seconds(), "lines/s")
	if r.Open() != 0 {
		b.Fatalf("%d checkouts are open", r.Open())
	}
}

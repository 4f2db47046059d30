package saga_test

import (
	"fmt"
	"testing"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// BenchmarkCheckout runs an order from placed to confirmed: 6 steps, 5 commands, over a store in memory.
func BenchmarkCheckout(b *testing.B) {
	store := memstore.New(memstore.Options{})
	defer store.Close()
	bus := newShop(b, store)
	r := newRunner(b, store, bus, checkoutSaga, saga.Options{})
	run(b, r)
	b.ReportAllocs()
	for n := range b.N {
		place(b, bus, fmt.Sprint(n), fmt.Sprintf("A%d B%d C%d", n%100, n%77, n%13), 100)
	}
	idle(b, r, store)
	if r.Open() > 0 {
		b.Fatalf("%d instances are open", r.Open())
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "instances/s")
}

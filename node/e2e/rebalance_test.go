package e2e

import (
	"fmt"
	"testing"
)

// What came in at one site is sold at another that has none of its own, when sites rebalance by themselves. One that leaves gives what it
// has, and is given nothing more.
func TestStockGoesWhereItIsSold(t *testing.T) {
	s := embeddedSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--rebalance", "auto")
	}
	a, b := s.both(t)
	s.equal(t)
	a.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 60}`)
	orders := 0
	eventually(t, "an order is shipped by the other site", func() bool {
		orders++
		id := fmt.Sprint("B-", orders)
		b.order(t, id)
		eventually(t, "order "+id+" has come to its end", func() bool { return b.checkoutEnd(t, id, s.names[1]) != "" })
		return b.checkoutEnd(t, id, s.names[1]) == "shipped"
	})
	s.equal(t)
	t.Logf("order %d is shipped", orders)

	b.post(t, "/v1/stock/CUP-1/receive", `{"quantity": 60}`)
	done(t, "sites", "leave", s.names[1], "--reason", "it is not wanted", "--data", s.data[1])
	b.stop(t)
	a.post(t, "/v1/stock/CUP-1/receive", `{"quantity": 1}`)
	eventually(t, "all can be sold by the site that stays", func() bool {
		sites, _ := a.get(t, "/v1/stock/CUP-1/rights")["sites"].([]any)
		for _, site := range sites {
			if site := site.(map[string]any); site["site"] == s.names[0] {
				return fmt.Sprint(site["available"]) == "61"
			}
		}
		return false
	})
	a.stop(t)
}

package drill

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/commerce/retail/importer"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// job is a command that a client gives to a site. Its key is its idempotency key: repeated, it takes effect once.
type job struct {
	key string
	do  func(context.Context, commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error)
}

// work is what the clients of each site are to do: what comes in before all else, the orders of the files, and what they quarrel
// about while a site is cut off.
type work struct{ opening, orders, quarrels [][]job }

// share shares the work of retail files out among n sites. Each invoice is carried out at one of them, and the stock that it
// takes is received there.
func share(set *retail.Set, sites []string) work {
	n := len(sites)
	w := work{make([][]job, n), make([][]job, n), make([][]job, n)}
	leaves := make([]map[string]int64, n)
	for i := range leaves {
		leaves[i] = map[string]int64{}
	}
	for item := range set.Plan().Work() {
		at := 0
		switch i := item.(type) {
		case retail.Order:
			at = place(i.Invoice, n)
			for _, l := range i.Lines {
				leaves[at][l.StockCode] += l.Quantity
			}
		case retail.Return:
			at = place(i.Invoice, n)
		case retail.StockAdjustment:
			at = place(i.Line.Invoice, n)
			leaves[at][i.Line.StockCode] += max(0, -i.Change)
		case retail.PaymentAdjustment:
			at = place(i.Line.Invoice, n)
		}
		w.orders[at] = append(w.orders[at], job{item.Key(), func(ctx context.Context, c commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error) {
			return importer.Issue(ctx, c, item)
		}})
	}
	for at, codes := range leaves {
		for _, code := range slices.Sorted(maps.Keys(codes)) {
			if codes[code] > 0 {
				w.opening[at] = append(w.opening[at], receive(sites[at], code, codes[code], set.Hash()[:16]))
			}
		}
	}
	return w
}

// place returns the site of an invoice.
func place(invoice string, sites int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(invoice)) // it cannot fail
	return int(h.Sum32() % uint32(sites))
}

func receive(site, code string, units int64, delivery string) job {
	key := fmt.Sprintf("drill/opening/%s/%s/%s", delivery, site, code)
	return job{key, func(ctx context.Context, c commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error) {
		return c.ReceiveStock(ctx, &commerceapiv1.ReceiveStockRequest{StockCode: code, Quantity: units, Reference: key}, grpc.WaitForReady(true))
	}}
}

// Scarce is a stock code of which each site has fewer units than its clients want.
const Scarce = "DRILL-SCARCE"

// scarceUnits is how many units of it each site has.
const scarceUnits = 20

// quarrel adds what all sites do at once to the same things: rounds times a customer's settings are changed, a cart is filled, an
// order is placed under one id, and the last units of a stock code are wanted.
func (w *work) quarrel(sites []string, rounds int, random *rand.Rand) {
	for at, site := range sites {
		w.opening[at] = append(w.opening[at], receive(site, Scarce, scarceUnits, "quarrel"))
		for round := range rounds {
			key := func(what string) string { return fmt.Sprintf("drill/%s/%d/%s", what, round, site) }
			language, newsletter := []string{"en", "fr", "zh", "de"}[(round+at)%4], random.IntN(2) == 0
			customer, cart, order := fmt.Sprintf("9%04d", round), fmt.Sprintf("drill-cart-%d", round), fmt.Sprintf("drill-both-%d", round)
			own := fmt.Sprintf("drill-%d-%s", round, site)
			wait := grpc.WaitForReady(true)
			w.quarrels[at] = append(w.quarrels[at],
				job{key("profile"), func(ctx context.Context, c commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error) {
					return c.ChangeProfile(ctx, &commerceapiv1.ChangeProfileRequest{CustomerId: customer, Language: &language, Newsletter: &newsletter}, wait)
				}},
				job{key("cart"), func(ctx context.Context, c commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error) {
					return c.AddToCart(ctx, &commerceapiv1.AddToCartRequest{Id: cart, StockCode: Scarce, Quantity: int64(at + 1)}, wait)
				}},
				job{key("order"), placing(own, customer)},
				job{key("same-order"), placing(order, customer)},
			)
		}
		random.Shuffle(len(w.quarrels[at]), func(i, j int) {
			w.quarrels[at][i], w.quarrels[at][j] = w.quarrels[at][j], w.quarrels[at][i]
		})
	}
}

// placing places an order for a scarce unit.
func placing(id, customer string) func(context.Context, commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error) {
	return func(ctx context.Context, c commerceapiv1.CommandServiceClient) (*commerceapiv1.Receipt, error) {
		return c.PlaceOrder(ctx, &commerceapiv1.PlaceOrderRequest{
			Id: id, CustomerId: customer, Country: "France", Lines: []*commerceapiv1.OrderLine{{StockCode: Scarce, Description: "Scarce", Quantity: 1, UnitPrice: "4.25"}},
		}, grpc.WaitForReady(true))
	}
}

// part returns the jobs of all sites from one share of them to another, 0 to 1.
func part(jobs [][]job, from, to float64) [][]job {
	out := make([][]job, len(jobs))
	for i, all := range jobs {
		out[i] = all[int(from*float64(len(all))):int(to*float64(len(all)))]
	}
	return out
}

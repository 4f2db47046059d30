package drill

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// ReadModel is what the read models of a site show.
type ReadModel struct {
	// Orders are counted by their status, as Redis has them; OnHand are the units of all stock codes there.
	Orders map[string]int64 `json:"orders"`
	OnHand int64            `json:"on_hand"`
	// Sales are net sales by month, as ClickHouse has them; nil where there is none.
	Sales map[string]string `json:"sales,omitempty"`
	// Compared counts what can be compared with other sites, by its kind: orders, lists of customers and so on.
	Compared map[string]int `json:"compared"`
	// Parked are events and checkouts that wait for a person.
	Parked int `json:"parked"`

	// shown has each thing as it is shown, without what is the site's own, such as positions.
	shown map[thing]string
}

// thing is something that read models show: an order, or all rows of one in a table.
type thing struct{ kind, id string }

// modelReader reads the models of a site.
type modelReader struct {
	site    *Site
	queries commerceapiv1.QueryServiceClient
	model   ReadModel
}

// readModel asks a site's read models for all orders and stock codes that a census has seen.
func (s *Site) readModel(ctx context.Context, held *Census) (ReadModel, error) {
	r := modelReader{site: s, queries: commerceapiv1.NewQueryServiceClient(s.conn)}
	r.model.shown, r.model.Compared = map[thing]string{}, map[string]int{}
	parts := []func(context.Context) error{
		func(ctx context.Context) error { return r.orders(ctx, slices.Sorted(maps.Keys(held.orders))) },
		func(ctx context.Context) error { return r.stock(ctx, slices.Sorted(maps.Keys(held.stock))) },
		r.parked,
	}
	if !s.opts.NoClickHouse {
		parts = append(parts, r.sales, r.tables)
	}
	for _, read := range parts {
		if err := read(ctx); err != nil {
			return r.model, fmt.Errorf("read the models of site %s: %w", s.Name, err)
		}
	}
	for t := range r.model.shown {
		r.model.Compared[t.kind]++
	}
	return r.model, nil
}

// longest is how much of what is shown of a thing is kept as it is, in bytes; of what is beyond a digest is.
const longest = 2000

// show notes what is shown of a thing.
func (r *modelReader) show(kind, id, text string) {
	if len(text) > longest {
		text = fmt.Sprintf("%s… and what has the digest %x", text[:longest], sha256.Sum256([]byte(text)))
	}
	r.model.shown[thing{kind, id}] = text
}

// showMessage notes an answer; no answer, when err says that there is no such thing.
func (r *modelReader) showMessage(kind, id string, m proto.Message, err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, id, err)
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, id, err)
	}
	r.show(kind, id, string(text))
	return nil
}

// orders reads how many there are, each by itself, and the lists of all customers who have any.
func (r *modelReader) orders(ctx context.Context, ids []string) error {
	counts, err := r.queries.CountOrders(ctx, &commerceapiv1.CountOrdersRequest{})
	if err != nil {
		return fmt.Errorf("count orders: %w", err)
	}
	r.model.Orders = counts.GetByStatus()
	for name, n := range r.model.Orders {
		r.show("status", name, fmt.Sprint(n))
	}
	customers := map[string]bool{}
	for _, id := range ids {
		o, err := r.queries.GetOrder(ctx, &commerceapiv1.GetOrderRequest{Id: id})
		if err == nil {
			o.Position = ""
			customers[o.GetCustomerId()] = o.GetCustomerId() != ""
		}
		if err := r.showMessage("order", id, o, err); err != nil {
			return err
		}
	}
	for customer, known := range customers {
		if !known { // guests have no list
			continue
		}
		all := &commerceapiv1.ListCustomerOrdersResponse{}
		for request := (&commerceapiv1.ListCustomerOrdersRequest{CustomerId: customer, PageSize: 100}); ; {
			page, err := r.queries.ListCustomerOrders(ctx, request)
			if err != nil {
				return fmt.Errorf("orders of customer %s: %w", customer, err)
			}
			for _, o := range page.GetOrders() {
				o.Position = ""
			}
			all.Orders, all.Total = append(all.Orders, page.GetOrders()...), page.GetTotal()
			if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
				break
			}
		}
		if err := r.showMessage("list of customer", customer, all, nil); err != nil {
			return err
		}
	}
	return nil
}

// stock reads the units of stock codes.
func (r *modelReader) stock(ctx context.Context, ids []string) error {
	for _, code := range ids {
		s, err := r.queries.GetStock(ctx, &commerceapiv1.GetStockRequest{StockCode: code})
		if err == nil {
			s.Position = ""
			r.model.OnHand += s.GetOnHand()
		}
		if err := r.showMessage("stock", code, s, err); err != nil {
			return err
		}
	}
	return nil
}

// parked counts what waits for a person.
func (r *modelReader) parked(ctx context.Context) error {
	parked, err := apiv1.NewAdminServiceClient(r.site.conn).ListParked(ctx, &apiv1.ListParkedRequest{})
	if err != nil {
		return fmt.Errorf("list what is parked: %w", err)
	}
	r.model.Parked = len(parked.GetEvents()) + len(parked.GetInstances())
	return nil
}

// salesPage is how many rows of sales are asked for at a time.
const salesPage = 10_000

// sales reads all groups of sales.
func (r *modelReader) sales(ctx context.Context) error {
	r.model.Sales = map[string]string{}
	for _, group := range []string{"by-day", "by-month", "by-country", "by-product"} {
		for offset := uint32(0); ; offset += salesPage {
			sales, err := r.queries.GetSales(ctx, &commerceapiv1.GetSalesRequest{Group: group, Limit: salesPage, Offset: offset})
			if err != nil {
				return fmt.Errorf("sales %s: %w", group, err)
			}
			for _, row := range sales.GetRows() {
				if group == "by-month" {
					r.model.Sales[row.GetKey()] = row.GetNet()
				}
				row.Description = "" // of two of the same time it is that which came first here
				if err := r.showMessage("sales "+group, row.GetKey(), row, nil); err != nil {
					return err
				}
			}
			if len(sales.GetRows()) < salesPage {
				break
			}
		}
	}
	return nil
}

// differences names some of what the read models of sites show differently, and says how much of that there is.
func differences(sites []string, models map[string]ReadModel) (named []string, total int) {
	things := map[thing]bool{}
	for _, m := range models {
		for t := range m.shown {
			things[t] = true
		}
	}
	byName := func(a, b thing) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id)) }
	for _, t := range slices.SortedFunc(maps.Keys(things), byName) {
		first := models[sites[0]].shown[t]
		for _, other := range sites[1:] {
			second := models[other].shown[t]
			if first == second {
				continue
			}
			if total++; total <= mostNamed {
				a, b := apart(first, second)
				named = append(named, fmt.Sprintf("%s %s: %s shows %s, %s shows %s", t.kind, t.id, sites[0], a, other, b))
			}
			break
		}
	}
	return named, total
}

// apart returns of two texts what is around the first place in which they differ.
func apart(a, b string) (string, string) {
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	around := func(s string) string {
		if s == "" {
			return "nothing"
		}
		from, to := max(0, at-60), min(len(s), at+60)
		return fmt.Sprintf("%q", s[from:to])
	}
	return around(a), around(b)
}

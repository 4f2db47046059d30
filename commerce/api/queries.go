package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// Views answers from the read models of the shop. Its answers leave position out: Queries knows it. Errors are those of
// package queries: ErrNotFound, ErrRebuilding, ErrUnavailable.
type Views interface {
	// Order returns an order with its lines.
	Order(ctx context.Context, id string) (*commerceapiv1.Order, error)
	// OrderCounts returns how many orders there are in each status.
	OrderCounts(ctx context.Context) (map[string]int64, error)
	// CustomerOrders returns up to limit of a customer's orders after the first offset, newest first and without their
	// lines, and how many there are in all. A customer that is not known has none.
	CustomerOrders(ctx context.Context, customerID string, offset, limit int) (orders []*commerceapiv1.Order, total int, err error)
	// Stock returns the units of a stock code.
	Stock(ctx context.Context, code string) (*commerceapiv1.Stock, error)
	// Sales returns net sales: days and months in order of time, countries and products from the highest net down.
	Sales(ctx context.Context, q SalesQuery) ([]*commerceapiv1.SalesRow, error)
}

// SalesQuery chooses a grouping and a part of the sales.
type SalesQuery struct {
	// Group is one of the Sales… constants.
	Group string
	// From and To are the first and last day, at midnight UTC; zero means from the beginning, to the end.
	From, To time.Time
	// Country is the only one; empty means all.
	Country       string
	Limit, Offset int
}

// The groupings of sales.
const (
	SalesByDay     = "by-day"
	SalesByMonth   = "by-month"
	SalesByCountry = "by-country"
	SalesByProduct = "by-product"
)

// Limits of pages.
const (
	DefaultOrdersPage = 20
	MaxOrdersPage     = 100
	DefaultSalesRows  = 100
	MaxSalesRows      = 10_000
)

// Queries implements QueryService. Orders, customers and stock come from the key model, sales from the row model; each
// answer says the position that its model had reached before it was read, so that it holds at least that much.
type Queries struct {
	commerceapiv1.UnimplementedQueryServiceServer

	Views Views
	// Rules read what is decided over several streams.
	Rules Rules
	// Keys and Rows say how far the two models are; one that is nil is switched off.
	Keys, Rows queries.Progress
	// Wait bounds how long a query waits for the position it names; zero means queries.DefaultWait.
	Wait time.Duration
}

// GetOrder returns an order.
func (q *Queries) GetOrder(ctx context.Context, r *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
	if r.GetId() == "" {
		return nil, fmt.Errorf("%w: id is empty", eventstore.ErrInvalid)
	}
	at, err := q.ready(ctx, q.Keys)
	if err != nil {
		return nil, err
	}
	o, err := q.Views.Order(ctx, r.GetId())
	if err != nil {
		return nil, fmt.Errorf("order %q: %w", r.GetId(), err)
	}
	o.Position = at
	return o, nil
}

// CountOrders returns how many orders there are in each status.
func (q *Queries) CountOrders(ctx context.Context, _ *commerceapiv1.CountOrdersRequest) (*commerceapiv1.OrderCounts, error) {
	at, err := q.ready(ctx, q.Keys)
	if err != nil {
		return nil, err
	}
	counts, err := q.Views.OrderCounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("order counts: %w", err)
	}
	return &commerceapiv1.OrderCounts{ByStatus: counts, Position: at}, nil
}

// ListCustomerOrders returns a customer's orders, newest first. Pages are counted from the newest, so that an order placed
// between two pages moves one that was seen to the next.
func (q *Queries) ListCustomerOrders(ctx context.Context, r *commerceapiv1.ListCustomerOrdersRequest) (*commerceapiv1.ListCustomerOrdersResponse, error) {
	size, sizeErr := bounded("page_size", r.GetPageSize(), DefaultOrdersPage, MaxOrdersPage)
	// A size that is refused leaves the page's own, so that both faults are told.
	page, tokenErr := queries.ParsePage("orders of customer "+r.GetCustomerId(), r.GetPageToken(), size)
	var idErr error
	if r.GetCustomerId() == "" {
		idErr = fmt.Errorf("%w: customer_id is empty", eventstore.ErrInvalid)
	}
	if err := errors.Join(idErr, sizeErr, tokenErr); err != nil {
		return nil, err
	}
	at, err := q.ready(ctx, q.Keys)
	if err != nil {
		return nil, err
	}
	orders, total, err := q.Views.CustomerOrders(ctx, r.GetCustomerId(), page.Offset, page.Limit)
	if err != nil {
		return nil, fmt.Errorf("orders of customer %q: %w", r.GetCustomerId(), err)
	}
	for _, o := range orders {
		o.Position = at
	}
	out := &commerceapiv1.ListCustomerOrdersResponse{Orders: orders, Total: uint32(min(max(total, 0), 1<<32-1)), Position: at}
	if len(orders) > 0 {
		out.NextPageToken = page.Next(total)
	}
	return out, nil
}

// GetStock returns the units of a stock code.
func (q *Queries) GetStock(ctx context.Context, r *commerceapiv1.GetStockRequest) (*commerceapiv1.Stock, error) {
	if r.GetStockCode() == "" {
		return nil, fmt.Errorf("%w: stock_code is empty", eventstore.ErrInvalid)
	}
	at, err := q.ready(ctx, q.Keys)
	if err != nil {
		return nil, err
	}
	s, err := q.Views.Stock(ctx, r.GetStockCode())
	if err != nil {
		return nil, fmt.Errorf("stock of %q: %w", r.GetStockCode(), err)
	}
	s.Position = at
	return s, nil
}

// GetSales returns net sales.
func (q *Queries) GetSales(ctx context.Context, r *commerceapiv1.GetSalesRequest) (*commerceapiv1.Sales, error) {
	query, err := salesQuery(r)
	if err != nil {
		return nil, err
	}
	at, err := q.ready(ctx, q.Rows)
	if err != nil {
		return nil, err
	}
	rows, err := q.Views.Sales(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("sales %s: %w", query.Group, err)
	}
	return &commerceapiv1.Sales{Rows: rows, Position: at}, nil
}

func salesQuery(r *commerceapiv1.GetSalesRequest) (SalesQuery, error) {
	var groupErr, orderErr error
	switch r.GetGroup() {
	case SalesByDay, SalesByMonth, SalesByCountry, SalesByProduct:
	default:
		groupErr = fmt.Errorf("%w: group %q is unknown, use %s, %s, %s or %s",
			eventstore.ErrInvalid, r.GetGroup(), SalesByDay, SalesByMonth, SalesByCountry, SalesByProduct)
	}
	from, fromErr := parseDay("from", r.GetFrom())
	to, toErr := parseDay("to", r.GetTo())
	if !from.IsZero() && !to.IsZero() && to.Before(from) {
		orderErr = fmt.Errorf("%w: to %s is before from %s", eventstore.ErrInvalid, r.GetTo(), r.GetFrom())
	}
	limit, limitErr := bounded("limit", r.GetLimit(), DefaultSalesRows, MaxSalesRows)
	return SalesQuery{
		Group: r.GetGroup(), From: from, To: to, Country: r.GetCountry(), Limit: limit, Offset: int(r.GetOffset()),
	}, errors.Join(groupErr, fromErr, toErr, orderErr, limitErr)
}

// ready waits for the position that the call names, if it names one, and returns the one that the model stands at.
func (q *Queries) ready(ctx context.Context, model queries.Progress) (string, error) {
	want, err := callOf(ctx)
	if err != nil {
		return "", err
	}
	if model == nil {
		return "", fmt.Errorf("%w: the read model is switched off", eventstore.ErrUnsupported)
	}
	at, err := queries.Fresh(ctx, model, want, q.Wait)
	if err != nil {
		return "", fmt.Errorf("wait for read model: %w", err)
	}
	return at.String(), nil
}

// bounded applies default and limit to a number that a request names.
func bounded(field string, asked uint32, byDefault, limit int) (int, error) {
	switch {
	case asked == 0:
		return byDefault, nil
	case asked > uint32(limit):
		return 0, fmt.Errorf("%w: %s %d is beyond %d", eventstore.ErrInvalid, field, asked, limit)
	}
	return int(asked), nil
}

func parseDay(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s %q is not a day YYYY-MM-DD", eventstore.ErrInvalid, field, text)
	}
	return day, nil
}

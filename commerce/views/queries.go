package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// Queries answers from the shop's read models. It implements api.Views; its methods return the errors of package queries.
type Queries struct {
	Keys queries.KeyReader
	// Rows may be nil where there are no tables; what needs them is then unavailable.
	Rows queries.RowReader
}

var _ api.Views = Queries{}

// Order returns an order with its lines.
func (q Queries) Order(ctx context.Context, id string) (*commerceapiv1.Order, error) {
	fields, err := q.Keys.Hash(ctx, orderKey(id))
	if err != nil {
		return nil, err
	}
	o, err := orderOf(fields)
	if err != nil {
		return nil, err
	}
	o.VoucherCode, o.Discount = fields["voucher_code"], fields["discount"]
	var lines []jsonLine
	if err := json.Unmarshal([]byte(fields["lines"]), &lines); err != nil {
		return nil, fmt.Errorf("read lines: %w", err)
	}
	for _, l := range lines {
		o.Lines = append(o.Lines, &commerceapiv1.OrderedLine{
			Number: l.Number, StockCode: l.StockCode, Description: l.Description, Quantity: l.Quantity, UnitPrice: l.UnitPrice,
		})
	}
	if fields[deliveredField] == "" {
		return o, nil
	}
	// It is read after the order, and only ever taken away: what is missing is erased.
	return o, q.delivery(ctx, o)
}

// delivery reads whom an order is delivered to.
func (q Queries) delivery(ctx context.Context, o *commerceapiv1.Order) error {
	all, err := q.Keys.Hashes(ctx, []string{personalKey(o.GetCustomerId())}, o.GetId())
	if err != nil {
		return err
	}
	text, ok := all[0][o.GetId()]
	if !ok {
		o.Erased = true
		return nil
	}
	var c jsonContact
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return errors.New("read delivery: it is not what the projection writes") // what it is instead may be personal
	}
	o.Delivery = &commerceapiv1.Contact{Name: c.Name, Email: c.Email, Street: c.Street, City: c.City, Phone: c.Phone}
	return nil
}

// orderFields are those that orderOf reads.
var orderFields = []string{"id", "customer_id", "status", "country", "currency", "total", "placed_at", "line_count", "version"}

// orderOf reads an order without its lines.
func orderOf(fields map[string]string) (*commerceapiv1.Order, error) {
	placed, err1 := time.Parse(time.RFC3339Nano, fields["placed_at"])
	lines, err2 := strconv.ParseUint(fields["line_count"], 10, 32)
	version, err3 := strconv.ParseUint(fields["version"], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("read order: %w", err)
	}
	return &commerceapiv1.Order{
		Id: fields["id"], CustomerId: fields["customer_id"], Status: fields["status"], Country: fields["country"],
		Currency: fields["currency"], Total: fields["total"], PlacedAt: timestamppb.New(placed),
		LineCount: uint32(lines), Version: version,
	}, nil
}

// OrderCounts returns how many orders there are in each status.
func (q Queries) OrderCounts(ctx context.Context) (map[string]int64, error) {
	return q.numbers(ctx, orderCountsKey)
}

// numbers reads a hash of numbers; an absent one is empty.
func (q Queries) numbers(ctx context.Context, key string) (map[string]int64, error) {
	fields, err := q.Keys.Hash(ctx, key)
	if errors.Is(err, queries.ErrNotFound) {
		return map[string]int64{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]int64, len(fields))
	for name, text := range fields {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read field %s of %s: %w", name, key, err)
		}
		if n != 0 {
			out[name] = n
		}
	}
	return out, nil
}

// CustomerOrders returns up to limit of a customer's orders after the first offset, newest first and without their lines,
// and how many there are.
func (q Queries) CustomerOrders(ctx context.Context, customerID string, offset, limit int) ([]*commerceapiv1.Order, int, error) {
	ids, total, err := q.Keys.SortedPage(ctx, customerOrdersKey(customerID), offset, limit)
	if err != nil {
		return nil, 0, err
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = orderKey(id)
	}
	hashes, err := q.Keys.Hashes(ctx, keys, orderFields...)
	if err != nil {
		return nil, 0, err
	}
	orders := make([]*commerceapiv1.Order, len(ids))
	for i, fields := range hashes {
		if orders[i], err = orderOf(fields); err != nil {
			return nil, 0, fmt.Errorf("order %s: %w", ids[i], err)
		}
	}
	return orders, total, nil
}

// Stock returns the units of a stock code.
func (q Queries) Stock(ctx context.Context, code string) (*commerceapiv1.Stock, error) {
	fields, err := q.Keys.Hash(ctx, stockKey(code))
	if err != nil {
		return nil, err
	}
	onHand, err1 := strconv.ParseInt(fields["on_hand"], 10, 64)
	reserved, err2 := strconv.ParseInt(fields["reserved"], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("read stock: %w", err)
	}
	return &commerceapiv1.Stock{StockCode: fields["stock_code"], OnHand: onHand, Reserved: reserved}, nil
}

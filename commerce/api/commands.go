package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// DefaultCurrency is that of requests that name none.
const DefaultCurrency = "GBP"

// Dispatcher takes commands; commands.Bus is one.
type Dispatcher interface {
	Dispatch(ctx context.Context, meta commands.Meta, cmds ...any) (eventstore.Receipt, error)
}

// Commands implements CommandService.
type Commands struct {
	commerceapiv1.UnimplementedCommandServiceServer

	// Bus takes the commands. Now gives the time of commands that name none, NewID the ids of what the client does not name.
	Bus   Dispatcher
	Now   func() time.Time
	NewID func() string
}

// PlaceOrder places an order. A request without an id gets a new one; repeated under its idempotency key, it returns the
// receipt of the first.
func (c *Commands) PlaceOrder(ctx context.Context, r *commerceapiv1.PlaceOrderRequest) (*commerceapiv1.Receipt, error) {
	currency := orDefault(r.GetCurrency(), DefaultCurrency)
	cmd := order.Place{
		ID: c.idFor(r.GetId()), CustomerID: r.GetCustomerId(), Country: r.GetCountry(), Currency: currency, At: c.at(r.GetPlacedAt()),
	}
	var faults []error
	for i, l := range r.GetLines() {
		price, err := amount(fmt.Sprintf("lines[%d].unit_price", i), l.GetUnitPrice(), currency)
		faults = append(faults, err)
		cmd.Lines = append(cmd.Lines, order.Line{
			Number: lineNumber(l, i), StockCode: l.GetStockCode(), Description: l.GetDescription(), Quantity: l.GetQuantity(), UnitPrice: price, At: lineTime(l),
		})
	}
	return c.dispatch(ctx, r, cmd.ID, cmd, faults...)
}

// ConfirmOrder confirms an order.
func (c *Commands) ConfirmOrder(ctx context.Context, r *commerceapiv1.ConfirmOrderRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetId(), order.Confirm{ID: r.GetId(), At: c.Now()})
}

// ShipOrder ships an order.
func (c *Commands) ShipOrder(ctx context.Context, r *commerceapiv1.ShipOrderRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetId(), order.Ship{ID: r.GetId(), At: c.Now()})
}

// CancelOrder cancels an order.
func (c *Commands) CancelOrder(ctx context.Context, r *commerceapiv1.CancelOrderRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetId(), order.Cancel{ID: r.GetId(), Reason: r.GetReason(), At: c.Now()})
}

// ReceiveReturn takes goods back.
func (c *Commands) ReceiveReturn(ctx context.Context, r *commerceapiv1.ReceiveReturnRequest) (*commerceapiv1.Receipt, error) {
	currency := orDefault(r.GetCurrency(), DefaultCurrency)
	cmd := returns.Receive{
		ID: c.idFor(r.GetId()), CustomerID: r.GetCustomerId(), Country: r.GetCountry(), Currency: currency, At: c.at(r.GetReceivedAt()),
	}
	var faults []error
	for i, l := range r.GetLines() {
		price, err := amount(fmt.Sprintf("lines[%d].unit_price", i), l.GetUnitPrice(), currency)
		faults = append(faults, err)
		cmd.Lines = append(cmd.Lines, returns.Line{
			Number: lineNumber(l, i), StockCode: l.GetStockCode(), Description: l.GetDescription(), Quantity: l.GetQuantity(), UnitPrice: price, At: lineTime(l),
		})
	}
	return c.dispatch(ctx, r, cmd.ID, cmd, faults...)
}

// ReceiveStock adds units to a stock code.
func (c *Commands) ReceiveStock(ctx context.Context, r *commerceapiv1.ReceiveStockRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetStockCode(), inventory.Receive{
		Code: r.GetStockCode(), Quantity: r.GetQuantity(), Reference: r.GetReference(), At: c.at(r.GetReceivedAt()),
	})
}

// AdjustStock corrects the units of a stock code.
func (c *Commands) AdjustStock(ctx context.Context, r *commerceapiv1.AdjustStockRequest) (*commerceapiv1.Receipt, error) {
	cmd := inventory.Adjust{Code: r.GetStockCode(), Delta: r.GetDelta(), Reason: r.GetReason(), At: c.at(r.GetAdjustedAt())}
	var fault error
	if d := r.GetDocument(); d != nil {
		var price money.Amount
		price, fault = amount("document.unit_price", d.GetUnitPrice(), orDefault(d.GetCurrency(), DefaultCurrency))
		cmd.Document = &inventory.Document{
			ID: d.GetId(), Line: int(d.GetLine()), CustomerID: d.GetCustomerId(), Country: d.GetCountry(),
			Quantity: d.GetQuantity(), UnitPrice: price,
		}
	}
	return c.dispatch(ctx, r, r.GetStockCode(), cmd, fault)
}

// RefundPayment pays back.
func (c *Commands) RefundPayment(ctx context.Context, r *commerceapiv1.RefundPaymentRequest) (*commerceapiv1.Receipt, error) {
	sum, err := amount("amount", r.GetAmount(), orDefault(r.GetCurrency(), DefaultCurrency))
	return c.dispatch(ctx, r, r.GetId(), payment.Refund{ID: r.GetId(), Amount: sum, Reason: r.GetReason(), At: c.Now()}, err)
}

// AdjustPayment records money without goods.
func (c *Commands) AdjustPayment(ctx context.Context, r *commerceapiv1.AdjustPaymentRequest) (*commerceapiv1.Receipt, error) {
	sum, err := amount("amount", r.GetAmount(), orDefault(r.GetCurrency(), DefaultCurrency))
	cmd := payment.Adjust{ID: r.GetId(), Amount: sum, Reason: r.GetReason(), At: c.at(r.GetAdjustedAt())}
	var fault error
	if d := r.GetDocument(); d != nil {
		var price money.Amount
		price, fault = amount("document.unit_price", d.GetUnitPrice(), orDefault(d.GetCurrency(), DefaultCurrency))
		cmd.Document = &payment.Document{
			ID: d.GetId(), Line: int(d.GetLine()), StockCode: r.GetStockCode(), CustomerID: d.GetCustomerId(), Country: d.GetCountry(),
			Quantity: d.GetQuantity(), UnitPrice: price,
		}
	}
	return c.dispatch(ctx, r, r.GetId(), cmd, err, fault)
}

func (c *Commands) dispatch(ctx context.Context, request proto.Message, id string, cmd any, faults ...error) (*commerceapiv1.Receipt, error) {
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	meta, err := metaOf(ctx, request)
	if err != nil {
		return nil, err
	}
	receipt, err := c.Bus.Dispatch(ctx, meta, cmd)
	if err != nil {
		return nil, err
	}
	out := &commerceapiv1.Receipt{
		Id: id, Position: receipt.Position.String(), Durability: receipt.Reached.String(), Duplicate: receipt.Duplicate,
	}
	if len(receipt.Streams) > 0 {
		s := receipt.Streams[0]
		out.Id, out.Stream, out.Version = s.Stream.ID, s.Stream.String(), s.Last
	}
	return out, nil
}

func (c *Commands) idFor(id string) string {
	if id != "" {
		return id
	}
	return c.NewID()
}

func (c *Commands) at(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return c.Now()
	}
	return t.AsTime()
}

func lineNumber(l *commerceapiv1.OrderLine, index int) int {
	if n := l.GetNumber(); n > 0 {
		return int(n)
	}
	return index + 1
}

// lineTime returns when a line was written; the zero time means when its document was.
func lineTime(l *commerceapiv1.OrderLine) time.Time {
	if l.GetAt() == nil {
		return time.Time{}
	}
	return l.GetAt().AsTime()
}

func orDefault(s, byDefault string) string {
	if s == "" {
		return byDefault
	}
	return s
}

// amount parses a price or sum that a request names; the error names the field.
func amount(field, number, currency string) (money.Amount, error) {
	if number == "" {
		return money.Amount{}, fmt.Errorf("%w: %s is empty", eventstore.ErrInvalid, field)
	}
	a, err := money.Parse(number, currency)
	if err != nil {
		return money.Amount{}, fmt.Errorf("%w: %s: %w", eventstore.ErrInvalid, field, err)
	}
	return a, nil
}

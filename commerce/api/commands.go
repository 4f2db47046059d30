package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	Bus Dispatcher
	// Rules read what is decided over several streams.
	Rules Rules
	Now   func() time.Time
	NewID func() string
	// Sites names the sites that take part, this one among them.
	Sites func() []string
}

// PlaceOrder places an order. A request without an id gets a new one; repeated under its idempotency key, it returns the
// receipt of the first.
func (c *Commands) PlaceOrder(ctx context.Context, r *commerceapiv1.PlaceOrderRequest) (*commerceapiv1.Receipt, error) {
	currency := orDefault(r.GetCurrency(), DefaultCurrency)
	cmd := order.Place{
		ID: c.idFor(ctx, r), CustomerID: r.GetCustomerId(), Country: r.GetCountry(), Currency: currency, At: c.at(r.GetPlacedAt()),
		Delivery: contactOf(r.GetDelivery()),
	}
	var faults []error
	for i, l := range r.GetLines() {
		price, err := amount(fmt.Sprintf("lines[%d].unit_price", i), l.GetUnitPrice(), currency)
		if err != nil && len(faults) < maxFaults {
			faults = append(faults, err)
		}
		cmd.Lines = append(cmd.Lines, order.Line{
			Number: lineNumber(l, i), StockCode: l.GetStockCode(), Description: l.GetDescription(), Quantity: l.GetQuantity(), UnitPrice: price, At: lineTime(l),
		})
	}
	if len(faults) > 0 {
		faults = append(faults, invalid(order.Aggregate().Validate(cmd))) // so that the client learns all that is wrong at once
		return nil, errors.Join(faults...)
	}
	guards, err := c.guards(ctx, &cmd, r.GetVoucherCode())
	if err != nil {
		return nil, err
	}
	return c.dispatchAll(ctx, r, cmd.ID, append(guards, cmd))
}

func contactOf(c *commerceapiv1.Contact) *order.Contact {
	if c == nil {
		return nil
	}
	return &order.Contact{Name: c.GetName(), Email: c.GetEmail(), Street: c.GetStreet(), City: c.GetCity(), Phone: c.GetPhone()}
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
		ID: c.idFor(ctx, r), CustomerID: r.GetCustomerId(), Country: r.GetCountry(), Currency: currency, At: c.at(r.GetReceivedAt()),
	}
	var faults []error
	for i, l := range r.GetLines() {
		price, err := amount(fmt.Sprintf("lines[%d].unit_price", i), l.GetUnitPrice(), currency)
		if err != nil && len(faults) < maxFaults {
			faults = append(faults, err)
		}
		cmd.Lines = append(cmd.Lines, returns.Line{
			Number: lineNumber(l, i), StockCode: l.GetStockCode(), Description: l.GetDescription(), Quantity: l.GetQuantity(), UnitPrice: price, At: lineTime(l),
		})
	}
	if len(faults) > 0 {
		faults = append(faults, invalid(returns.Aggregate().Validate(cmd)))
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

// MoveStockRights gives units to another site to sell. Units that a site has which takes no part would be lost to all.
func (c *Commands) MoveStockRights(ctx context.Context, r *commerceapiv1.MoveStockRightsRequest) (*commerceapiv1.Receipt, error) {
	if sites := c.Sites(); !slices.Contains(sites, r.GetToSite()) {
		return nil, fmt.Errorf("%w: to_site %q is not the name of a site that takes part: name one of %s, without a shard", eventstore.ErrInvalid, r.GetToSite(), strings.Join(sites, ", "))
	}
	return c.dispatch(ctx, r, r.GetStockCode(), inventory.MoveRights{Code: r.GetStockCode(), To: r.GetToSite(), Quantity: r.GetQuantity(), At: c.Now()})
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
	return c.dispatchAll(ctx, request, id, []any{cmd})
}

func (c *Commands) dispatchAll(ctx context.Context, request proto.Message, id string, cmds []any) (*commerceapiv1.Receipt, error) {
	meta, err := metaOf(ctx, request)
	if err != nil {
		return nil, err
	}
	receipt, err := c.Bus.Dispatch(ctx, meta, cmds...)
	switch {
	case errors.Is(err, eventstore.ErrDurabilityTimeout):
		return nil, &PendingError{Receipt: receiptOf(id, receipt), Err: err}
	case err != nil:
		return nil, err
	}
	return receiptOf(id, receipt), nil
}

// receiptOf says what the command did. The original receipt of a repeated command names the stream that was changed then;
// the bus puts the one of this time's command before it, which is another when the server made up an id both times.
func receiptOf(id string, r eventstore.Receipt) *commerceapiv1.Receipt {
	out := &commerceapiv1.Receipt{Id: id, Position: r.Position.String(), Durability: r.Reached.String(), Duplicate: r.Duplicate}
	if r.Dot.Seq > 0 {
		out.Session = r.Dot.String()
	}
	if len(r.Streams) == 0 {
		return out
	}
	s := r.Streams[0]
	if r.Duplicate && s.Last == 0 && len(r.Streams) > 1 {
		s = r.Streams[1]
	}
	out.Id, out.Stream, out.Version = s.Stream.ID, s.Stream.String(), s.Last
	return out
}

// PendingError: the command is recorded, but not yet as durable as it asked. It matches eventstore.ErrDurabilityTimeout.
type PendingError struct {
	// Receipt is valid; it says which durability was reached.
	Receipt *commerceapiv1.Receipt
	Err     error
}

// Error says what was not reached in time.
func (e *PendingError) Error() string { return e.Err.Error() }

// Unwrap returns what the store said.
func (e *PendingError) Unwrap() error { return e.Err }

// Answer gives the server the receipt, which goes to the client together with the error.
func (e *PendingError) Answer() proto.Message { return e.Receipt }

// idFor returns the id that a request names, else one that is made for it.
func (c *Commands) idFor(ctx context.Context, r interface {
	proto.Message
	GetId() string
}) string {
	return cmp.Or(r.GetId(), c.madeFor(ctx, r))
}

// madeFor makes an id for what a request makes. One with an Idempotency-Key has the same one at every site that it is done at, so that what is
// made there is one thing.
func (c *Commands) madeFor(ctx context.Context, r proto.Message) string {
	m, err := metaOf(ctx, r)
	if err != nil || m.ID == "" { // what is wrong with it dispatch says
		return c.NewID()
	}
	sum := sha256.Sum256(append([]byte(m.ID+"\x00"), m.Hash[:]...))
	return hex.EncodeToString(sum[:16])
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

// maxFaults ends the list of what is wrong with a request.
const maxFaults = 20

// invalid marks what is wrong with a command, fault by fault.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", eventstore.ErrInvalid, err)
}

// amount parses a price or sum that a request names; the error names the field. What it returns with an error is nothing
// in that currency, where there is such a currency.
func amount(field, number, currency string) (money.Amount, error) {
	zero, err := money.Zero(currency)
	if err != nil {
		return zero, fmt.Errorf("%w: %s: %w", eventstore.ErrInvalid, field, err)
	}
	if number == "" {
		return zero, fmt.Errorf("%w: %s is empty", eventstore.ErrInvalid, field)
	}
	a, err := money.Parse(number, currency)
	if err != nil {
		return zero, fmt.Errorf("%w: %s: %w", eventstore.ErrInvalid, field, err)
	}
	return a, nil
}

package api

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/voucher"
	"github.com/tributary-es/tributary/eventstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// Rules reads, from the log itself, what is decided over several streams.
type Rules struct{ Bus *commands.Bus }

func (r Rules) voucher(ctx context.Context, code string) (voucher.State, eventstore.Position, error) {
	s, at, err := commands.LoadFor[voucher.State, voucher.Command, voucher.Event](ctx, r.Bus, voucher.Decider(), "", voucher.Look{Code: code})
	if err != nil {
		return s, at, fmt.Errorf("voucher %q: %w", code, err)
	}
	return s, at, nil
}

// guards completes an order and returns the commands that have to stand in front of it in its message.
func (c *Commands) guards(ctx context.Context, cmd *order.Place, voucherCode string) ([]any, error) {
	if voucherCode == "" {
		return nil, nil
	}
	if err := invalid(order.Aggregate().Validate(*cmd)); err != nil {
		return nil, err
	}
	total, err := cmd.Total()
	if err != nil {
		return nil, invalid(err)
	}
	cmd.VoucherCode = voucherCode
	// What it is worth never changes. Whether it may be redeemed is decided with the order, and not here.
	v, _, err := c.Rules.voucher(ctx, voucherCode)
	if err != nil {
		return nil, err
	}
	// In another currency it is refused when it is decided.
	cmd.Discount, _ = voucher.Worth(v.Value, total)
	return []any{voucher.Redeem{Code: voucherCode, OrderID: cmd.ID, Total: total, Discount: cmd.Discount}}, nil
}

// CreateVoucher makes a voucher.
func (c *Commands) CreateVoucher(ctx context.Context, r *commerceapiv1.CreateVoucherRequest) (*commerceapiv1.Receipt, error) {
	value, err := amount("value", r.GetValue(), orDefault(r.GetCurrency(), DefaultCurrency))
	return c.dispatch(ctx, r, r.GetCode(), voucher.Create{Code: r.GetCode(), Value: value, At: c.Now()}, err)
}

// WithdrawVoucher ends a voucher.
func (c *Commands) WithdrawVoucher(ctx context.Context, r *commerceapiv1.WithdrawVoucherRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetCode(), voucher.Withdraw{Code: r.GetCode(), Reason: r.GetReason(), At: c.Now()})
}

// GetVoucher returns a voucher as the log has it now.
func (q *Queries) GetVoucher(ctx context.Context, r *commerceapiv1.GetVoucherRequest) (*commerceapiv1.Voucher, error) {
	if _, err := callOf(ctx); err != nil {
		return nil, err
	}
	if r.GetCode() == "" {
		return nil, fmt.Errorf("%w: code is empty", eventstore.ErrInvalid)
	}
	v, at, err := q.Rules.voucher(ctx, r.GetCode())
	if err != nil {
		return nil, err
	}
	if v.Status() == voucher.None {
		return nil, fmt.Errorf("voucher %q: %w", r.GetCode(), eventstore.ErrNotFound)
	}
	return &commerceapiv1.Voucher{
		Code: r.GetCode(), Value: v.Value.String(), Currency: v.Value.Currency(), Status: string(v.Status()),
		OrderId: v.OrderID, Position: at.String(),
	}, nil
}

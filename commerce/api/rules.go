package api

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/customer"
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
	cmd.VoucherCode = voucherCode
	due, err := cmd.Total()
	if err != nil {
		return nil, nil // the order itself is refused
	}
	var guards []any
	if voucherCode != "" {
		// What it is worth never changes. Whether it may be redeemed is decided with the order, and not here.
		v, _, err := c.Rules.voucher(ctx, voucherCode)
		if err != nil {
			return nil, err
		}
		redeem := voucher.Redeem{Code: voucherCode, OrderID: cmd.ID, Total: due}
		// In another currency it is worth nothing, and refused when it is decided.
		if redeem.Discount, err = voucher.Worth(v.Value, due); err == nil {
			cmd.Discount = redeem.Discount
			if due, err = due.Sub(cmd.Discount); err != nil {
				return nil, err
			}
		}
		guards = append(guards, redeem)
	}
	if cmd.CustomerID != "" {
		guards = append(guards, customer.CheckCredit{CustomerID: cmd.CustomerID, Amount: due})
	}
	return guards, nil
}

// SetCreditLimit limits a customer's open orders.
func (c *Commands) SetCreditLimit(ctx context.Context, r *commerceapiv1.SetCreditLimitRequest) (*commerceapiv1.Receipt, error) {
	limit, err := amount("limit", r.GetLimit(), orDefault(r.GetCurrency(), DefaultCurrency))
	return c.dispatch(ctx, r, r.GetCustomerId(), customer.SetCreditLimit{CustomerID: r.GetCustomerId(), Limit: limit, At: c.Now()}, err)
}

// LiftCreditLimit ends a customer's limit.
func (c *Commands) LiftCreditLimit(ctx context.Context, r *commerceapiv1.LiftCreditLimitRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetCustomerId(), customer.LiftCreditLimit{CustomerID: r.GetCustomerId(), At: c.Now()})
}

// GetCredit returns a customer's credit as the log has it now.
func (q *Queries) GetCredit(ctx context.Context, r *commerceapiv1.GetCreditRequest) (*commerceapiv1.Credit, error) {
	if _, err := callOf(ctx); err != nil {
		return nil, err
	}
	if r.GetCustomerId() == "" {
		return nil, fmt.Errorf("%w: customer_id is empty", eventstore.ErrInvalid)
	}
	s, at, err := commands.LoadFor[customer.State, customer.Command, customer.Event](
		ctx, q.Rules.Bus, customer.Decider(), "", customer.Look{CustomerID: r.GetCustomerId()})
	if err != nil {
		return nil, fmt.Errorf("credit of customer %q: %w", r.GetCustomerId(), err)
	}
	out := &commerceapiv1.Credit{CustomerId: r.GetCustomerId(), Position: at.String()}
	limit, limited := s.Limit()
	if !limited {
		return out, nil
	}
	open, err := s.Open()
	if err != nil {
		return nil, fmt.Errorf("credit of customer %q: %w", r.GetCustomerId(), err)
	}
	out.Limited, out.Limit, out.Open, out.Currency = true, limit.String(), open.String(), limit.Currency()
	return out, nil
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

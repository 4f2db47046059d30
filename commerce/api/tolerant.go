package api

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/cart"
	"github.com/tributary-es/tributary/commerce/profile"
	"github.com/tributary-es/tributary/eventstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// What customers do for themselves, at whatever site they are: carts and settings. Both are read from the log itself.

// AddToCart puts units into a cart.
func (c *Commands) AddToCart(ctx context.Context, r *commerceapiv1.AddToCartRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetId(), cart.Add{
		ID: r.GetId(), Line: c.madeFor(ctx, r), StockCode: r.GetStockCode(), Quantity: r.GetQuantity(), At: c.Now(),
	})
}

// SetInCart says how many units of a stock code are in a cart.
func (c *Commands) SetInCart(ctx context.Context, r *commerceapiv1.SetInCartRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetId(), cart.Set{
		ID: r.GetId(), Line: c.madeFor(ctx, r), StockCode: r.GetStockCode(), Quantity: r.GetQuantity(), At: c.Now(),
	})
}

// EmptyCart takes everything out of a cart.
func (c *Commands) EmptyCart(ctx context.Context, r *commerceapiv1.EmptyCartRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetId(), cart.Empty{ID: r.GetId(), At: c.Now()})
}

// GetCart returns what is in a cart as the log has it now.
func (q *Queries) GetCart(ctx context.Context, r *commerceapiv1.GetCartRequest) (*commerceapiv1.Cart, error) {
	if _, err := callOf(ctx); err != nil {
		return nil, err
	}
	if err := eventstore.Stream(cart.Category, r.GetId()).Validate(); err != nil {
		return nil, err
	}
	s, version, at, err := commands.LoadHere(ctx, q.Rules.Bus, cart.Aggregate(), "", r.GetId())
	if err != nil {
		return nil, fmt.Errorf("cart %q: %w", r.GetId(), err)
	}
	out := &commerceapiv1.Cart{Id: r.GetId(), Version: version, Position: at.String()}
	for _, l := range s.Lines() {
		out.Lines = append(out.Lines, &commerceapiv1.CartLine{StockCode: l.StockCode, Quantity: l.Quantity})
	}
	return out, nil
}

// ChangeProfile changes settings of a customer.
func (c *Commands) ChangeProfile(ctx context.Context, r *commerceapiv1.ChangeProfileRequest) (*commerceapiv1.Receipt, error) {
	return c.dispatch(ctx, r, r.GetCustomerId(), profile.Change{
		CustomerID: r.GetCustomerId(), Language: r.Language, Currency: r.Currency, Newsletter: r.Newsletter, At: c.Now(),
	})
}

// GetProfile returns a customer's settings as the log has them now.
func (q *Queries) GetProfile(ctx context.Context, r *commerceapiv1.GetProfileRequest) (*commerceapiv1.Profile, error) {
	if _, err := callOf(ctx); err != nil {
		return nil, err
	}
	if err := eventstore.Stream(profile.Category, r.GetCustomerId()).Validate(); err != nil {
		return nil, err
	}
	s, version, at, err := commands.LoadHere(ctx, q.Rules.Bus, profile.Aggregate(), "", r.GetCustomerId())
	if err != nil {
		return nil, fmt.Errorf("profile of customer %q: %w", r.GetCustomerId(), err)
	}
	return &commerceapiv1.Profile{
		CustomerId: r.GetCustomerId(), Language: s.Language, Currency: s.Currency, Newsletter: s.Newsletter,
		Version: version, Position: at.String(),
	}, nil
}

package api_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/commerce/cart"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

func TestCart(t *testing.T) {
	c, _ := shop(t)
	q := &api.Queries{Rules: api.Rules{Bus: c.Bus.(*commands.Bus)}}
	ctx := call(t)
	lines := func() string {
		t.Helper()
		cart, err := q.GetCart(ctx, &commerceapiv1.GetCartRequest{Id: "C-1"})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, l := range cart.GetLines() {
			text += fmt.Sprint(l.GetStockCode(), " ", l.GetQuantity(), ", ")
		}
		return fmt.Sprint(text, "version ", cart.GetVersion(), " at ", cart.GetPosition())
	}
	if got := lines(); got != "version 0 at 1-0" {
		t.Errorf("a cart that was never used has %s", got)
	}
	for _, step := range []struct {
		do   func() (*commerceapiv1.Receipt, error)
		want string
	}{
		{func() (*commerceapiv1.Receipt, error) {
			return c.AddToCart(ctx, &commerceapiv1.AddToCartRequest{Id: "C-1", StockCode: "MUG", Quantity: 2})
		}, "MUG 2, version 1 at 1-1"},
		{func() (*commerceapiv1.Receipt, error) {
			return c.AddToCart(ctx, &commerceapiv1.AddToCartRequest{Id: "C-1", StockCode: "MUG", Quantity: 1})
		}, "MUG 3, version 2 at 1-2"},
		{func() (*commerceapiv1.Receipt, error) {
			return c.SetInCart(ctx, &commerceapiv1.SetInCartRequest{Id: "C-1", StockCode: "MUG", Quantity: 7})
		}, "MUG 7, version 3 at 1-3"},
		{func() (*commerceapiv1.Receipt, error) {
			return c.EmptyCart(ctx, &commerceapiv1.EmptyCartRequest{Id: "C-1"})
		}, "version 4 at 1-4"},
	} {
		if r, err := step.do(); err != nil || r.GetId() != "C-1" {
			t.Fatalf("receipt %v, %v", r, err)
		}
		if got := lines(); got != step.want {
			t.Errorf("in the cart is %s, want %s", got, step.want)
		}
	}
	if _, err := c.AddToCart(ctx, &commerceapiv1.AddToCartRequest{Id: "C-1", StockCode: "MUG"}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error is %v, want it invalid", err)
	}
	if _, err := q.GetCart(ctx, &commerceapiv1.GetCartRequest{}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error is %v, want it invalid", err)
	}
}

// A command that is done again at another site, with the same key, adds the same line there; another one adds another line.
func TestLineOfARepeatedCommand(t *testing.T) {
	lineOf := func(key string, quantity int64) string {
		c, s := spied()
		ctx := call(t)
		if key != "" {
			ctx = call(t, "idempotency-key", key)
		}
		if _, err := c.AddToCart(ctx, &commerceapiv1.AddToCartRequest{Id: "C-1", StockCode: "MUG", Quantity: quantity}); err != nil {
			t.Fatal(err)
		}
		return s.cmd.(cart.Add).Line
	}
	first := lineOf("k", 1)
	if again := lineOf("k", 1); again != first {
		t.Errorf("the same command adds line %q at one site and %q at another", first, again)
	}
	if other, more, none := lineOf("l", 1), lineOf("k", 2), lineOf("", 1); other == first || more == first || none != "made" {
		t.Errorf("line %q; with another key %q, of more units %q, without a key %q, want them all different, the last one made", first, other, more, none)
	}
}

// So an order or a return without an id of its own is one, too; one that is named keeps its name.
func TestIdOfARepeatedCommand(t *testing.T) {
	place := func(id, key string) string {
		c, s := spied()
		if _, err := c.PlaceOrder(call(t, "idempotency-key", key), &commerceapiv1.PlaceOrderRequest{Id: id, CustomerId: "9", Country: "EIRE"}); err != nil {
			t.Fatal(err)
		}
		return s.cmd.(order.Place).ID
	}
	receive := func(key string) string {
		c, s := spied()
		if _, err := c.ReceiveReturn(call(t, "idempotency-key", key), &commerceapiv1.ReceiveReturnRequest{CustomerId: "9", Country: "EIRE"}); err != nil {
			t.Fatal(err)
		}
		return s.cmd.(returns.Receive).ID
	}
	if first, again, other, named := place("", "k"), place("", "k"), place("", "l"), place("A", "k"); first != again || first == other || named != "A" {
		t.Errorf("orders %q and again %q, with another key %q, with a name %q", first, again, other, named)
	}
	if first, again, other := receive("k"), receive("k"), receive("l"); first != again || first == other || first == place("", "k") {
		t.Errorf("returns %q and again %q, with another key %q, and an order %q", first, again, other, place("", "k"))
	}
}

func TestProfile(t *testing.T) {
	c, _ := shop(t)
	q := &api.Queries{Rules: api.Rules{Bus: c.Bus.(*commands.Bus)}}
	ctx := call(t)
	change := &commerceapiv1.ChangeProfileRequest{CustomerId: "17850", Language: proto.String("fr"), Newsletter: proto.Bool(true)}
	if r, err := c.ChangeProfile(ctx, change); err != nil || r.GetStream() != "default/profile/17850" {
		t.Fatalf("receipt %v, %v", r, err)
	}
	if _, err := c.ChangeProfile(ctx, &commerceapiv1.ChangeProfileRequest{CustomerId: "17850", Currency: proto.String("EUR")}); err != nil {
		t.Fatal(err)
	}
	got, err := q.GetProfile(ctx, &commerceapiv1.GetProfileRequest{CustomerId: "17850"})
	want := &commerceapiv1.Profile{CustomerId: "17850", Language: "fr", Currency: "EUR", Newsletter: true, Version: 2, Position: "1-2"}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("profile is %v, %v, want %v", got, err, want)
	}
	if _, err := c.ChangeProfile(ctx, &commerceapiv1.ChangeProfileRequest{CustomerId: "17850"}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error is %v, want it invalid", err)
	}
	if _, err := q.GetProfile(ctx, &commerceapiv1.GetProfileRequest{}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error is %v, want it invalid", err)
	}
}

package api_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/eventstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// What each site may sell is told as soon as it is recorded: what came in, was given away, is held and was taken out.
func TestStockRights(t *testing.T) {
	c, _ := shop(t)
	q := &api.Queries{Rules: api.Rules{Bus: c.Bus.(*commands.Bus)}}
	ctx := call(t)
	if _, err := q.GetStockRights(ctx, &commerceapiv1.GetStockRightsRequest{StockCode: "MUG"}); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("of a code that nobody has received: %v", err)
	}
	if _, err := q.GetStockRights(ctx, &commerceapiv1.GetStockRightsRequest{}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("without a code: %v", err)
	}
	for _, do := range []func() (*commerceapiv1.Receipt, error){
		func() (*commerceapiv1.Receipt, error) {
			return c.ReceiveStock(ctx, &commerceapiv1.ReceiveStockRequest{StockCode: "MUG", Quantity: 100})
		},
		func() (*commerceapiv1.Receipt, error) {
			return c.MoveStockRights(ctx, &commerceapiv1.MoveStockRightsRequest{StockCode: "MUG", ToSite: "sh", Quantity: 30})
		},
		func() (*commerceapiv1.Receipt, error) {
			return c.AdjustStock(ctx, &commerceapiv1.AdjustStockRequest{StockCode: "MUG", Delta: -10, Reason: "broken"})
		},
	} {
		if _, err := do(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := q.GetStockRights(ctx, &commerceapiv1.GetStockRightsRequest{StockCode: "MUG"})
	if err != nil {
		t.Fatal(err)
	}
	got := r.GetStockCode() + " at " + r.GetPosition()
	for _, s := range r.GetSites() {
		got += fmt.Sprintf(", %s %d %d", s.GetSite(), s.GetAvailable(), s.GetHeld())
	}
	if want := "MUG at 1-3, local 60 0, sh 30 0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/commerce/cart"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/customer"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/profile"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/commerce/voucher"
	clickhouseschema "github.com/tributary-es/tributary/schemas/clickhouse"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// Shop is the reference domain: orders, inventory, payments, returns, and the sagas that join them.
func Shop() Domain {
	keys := views.Keys()
	return Domain{
		Name:      views.Name,
		Register:  registerShop,
		Keys:      &keys,
		SharedKey: views.Shared,
		Rows:      &Tables{Projection: views.Rows(), Schema: clickhouseschema.Shop()},
		Sagas:     []Saga{RunSaga(checkout.Saga(checkout.Options{})), RunSaga(checkout.ReturnSaga())},
		Services:  shopServices,
		Codecs:    []commands.Codec[proto.Message]{order.Codec(), inventory.Codec(), payment.Codec(), returns.Codec(), voucher.Codec(), customer.Codec(), cart.Codec(), profile.Codec()},
		Figures:   shopFigures,
		Leave:     giveStockAway,
		Rebalance: rebalanceStock,
	}
}

// giveStockAway gives the units that this site may sell to others.
func giveStockAway(ctx context.Context, p *Parts, to []string) (given, kept string, err error) {
	g, err := inventory.GiveAway(ctx, p.Bus, p.Log, to, p.Now())
	if g.Units > 0 {
		given = fmt.Sprintf("%d units of stock, of %d codes", g.Units, g.Codes)
	}
	var stays []string
	if g.Held > 0 {
		stays = append(stays, fmt.Sprintf("%d units of stock that open orders of this site hold, of %d codes", g.Held, g.HeldCodes))
	}
	if !g.Dropped.IsZero() {
		stays = append(stays, fmt.Sprintf("what it has of codes that it was given no units of after %s, up to where events were dropped: they were not looked at", g.Dropped))
	}
	if g.DroppedCodes > 0 {
		stays = append(stays, fmt.Sprintf("what it has of %d codes whose first events were dropped: it cannot be told how much that is", g.DroppedCodes))
	}
	return given, strings.Join(stays, "; "), err
}

// rebalanceStock gives units that this site may sell to sites that sell more than they have.
func rebalanceStock(ctx context.Context, p *Parts) error {
	return inventory.Rebalancer{Bus: p.Bus, Log: p.Log, Sites: p.Takers, Now: p.Now, Logger: p.Logger}.Run(ctx)
}

// registerShop adds the aggregates of the shop, and the rules over several of their instances.
func registerShop(b *commands.Bus) error {
	return errors.Join(checkout.Register(b), voucher.Register(b), customer.Register(b), cart.Register(b), profile.Register(b))
}

func shopServices(p *Parts) []Service {
	newID := func() string { return uuid.Must(uuid.NewV7()).String() }
	return []Service{
		{&commerceapiv1.CommandService_ServiceDesc, &api.Commands{Bus: p.Bus, Rules: api.Rules{Bus: p.Bus}, Now: p.Now, NewID: newID, Sites: p.Sites}},
		{&commerceapiv1.QueryService_ServiceDesc, &api.Queries{
			Views: views.Queries{Keys: p.Keys, Rows: p.Rows}, Rules: api.Rules{Bus: p.Bus}, Keys: p.KeysProgress, Rows: p.RowsProgress,
		}},
	}
}

func shopFigures(ctx context.Context, p *Parts, f *Figures) error {
	q := views.Queries{Keys: p.Keys, Rows: p.Rows}
	keys, err := q.KeyFigures(ctx)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	f.Redis = &RedisFigures{Orders: keys.Orders, Shipped: keys.Shipped, StockCodes: keys.StockCodes, OnHand: keys.OnHand}
	if p.Rows == nil {
		return nil
	}
	rows, err := q.RowFigures(ctx)
	if err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	f.ClickHouse = &ClickHouseFigures{
		Lines: rows.Lines, Invoices: rows.Invoices, Returns: rows.Returns, Customers: rows.Customers,
		Net: rows.Net, ByMonth: rows.ByMonth, ByCountry: rows.ByCountry, ByStock: rows.ByStock,
	}
	return nil
}

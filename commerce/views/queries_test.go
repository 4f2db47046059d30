package views_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// testOrder returns an order of one customer with lines of code, quantity and price.
func testOrder(id, customer, country string, at time.Time, of ...retail.Line) retail.Order {
	total := money.MustParse("0", retail.Currency)
	for i := range of {
		of[i].Ordinal, of[i].At = i+1, at
		sum, err := of[i].UnitPrice.Mul(of[i].Quantity)
		if err == nil {
			total, err = total.Add(sum)
		}
		if err != nil {
			panic(err)
		}
	}
	return retail.Order{Invoice: id, Customer: customer, Country: country, At: at, Lines: of, Total: total}
}

func testLine(code, description string, quantity int64, price string) retail.Line {
	return retail.Line{StockCode: code, Description: description, Quantity: quantity, UnitPrice: money.MustParse(price, retail.Currency)}
}

var (
	december = time.Date(2010, 12, 31, 23, 59, 0, 0, time.UTC)
	january  = time.Date(2011, 1, 15, 10, 0, 0, 0, time.UTC)
)

// smallShop is a log of a few orders: A and B are carried through, C is cancelled, D is only placed, and of A something
// comes back.
func smallShop(t testing.TB) *memstore.Store {
	w := &shopWriter{t: t, log: memstore.New(memstore.Options{})}
	for _, code := range []string{"cup", "CUP", "pot/1"} {
		w.add(inventory.Category, code, inventory.ReceivedV1, &commercev1.InventoryReceived{Quantity: 100, AtMs: december.UnixMilli()})
	}
	w.flush()
	a := testOrder("A", "17850", "France", december, testLine("cup", "A CUP", 2, "2.555"), testLine("cup", "A CUP", 1, "2.5"), testLine("CUP", "BIG CUP", 3, "10"))
	b := testOrder("B", "17850", "EIRE", january, testLine("cup", "CUP, NEW", 4, "2"))
	c := testOrder("C", "17850", "France", january.Add(time.Hour), testLine("pot/1", "", 5, "0.001"), testLine("cup", "A CUP", 1, "7"))
	d := testOrder("D", "", "France", january.AddDate(0, 1, 0), testLine("pot/1", "POT", 1, "0.125"))
	w.order(a)
	w.flush()
	w.order(b)
	w.flush()
	for _, o := range []retail.Order{c, d} {
		w.add(order.Category, o.Invoice, order.CreatedV1, &commercev1.OrderCreated{
			Id: o.Invoice, CustomerId: o.Customer, Country: o.Country, Currency: retail.Currency, Lines: lines(o.Lines, 1, o.At.UnixMilli()),
			Total: o.Total.Proto(), AtMs: o.At.UnixMilli(),
		})
		w.add(inventory.Category, "pot/1", inventory.ReservedV1, &commercev1.InventoryReserved{Reservation: o.Invoice, Quantity: o.Lines[0].Quantity, AtMs: o.At.UnixMilli()})
		w.flush()
	}
	w.cancel(c)
	w.add(inventory.Category, "pot/1", inventory.ReleasedV1, &commercev1.InventoryReleased{Reservation: "C", Quantity: 5, AtMs: c.At.UnixMilli()})
	w.flush()
	back := testLine("cup", "A CUP", -1, "2.5")
	back.Ordinal, back.At = 1, january.AddDate(0, 0, 1)
	w.returned(retail.Return{Invoice: "R", Customer: "17850", Country: "France", At: back.At, Lines: []retail.Line{back}, Refund: money.MustParse("2.5", retail.Currency)})
	w.flush()
	return w.log
}

func TestKeyQueries(t *testing.T) {
	keys := memview.NewKeys(views.Keys())
	log := smallShop(t)
	if err := projections.Replay(t.Context(), log, keys, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	q := views.Queries{Keys: keys}
	got, err := q.Order(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	want := &commerceapiv1.Order{
		Id: "A", CustomerId: "17850", Status: "shipped", Country: "France", Currency: "GBP", Total: "37.61", PlacedAt: timestamppb.New(december),
		LineCount: 3, Version: 3, Lines: []*commerceapiv1.OrderedLine{
			{Number: 1, StockCode: "cup", Description: "A CUP", Quantity: 2, UnitPrice: "2.555"},
			{Number: 2, StockCode: "cup", Description: "A CUP", Quantity: 1, UnitPrice: "2.5"},
			{Number: 3, StockCode: "CUP", Description: "BIG CUP", Quantity: 3, UnitPrice: "10"},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("order A (-want +got):\n%s", diff)
	}
	if _, err := q.Order(t.Context(), "Z"); !errors.Is(err, queries.ErrNotFound) {
		t.Errorf("an order that is not there: %v, want ErrNotFound", err)
	}
	counts, err := q.OrderCounts(t.Context())
	if diff := cmp.Diff(map[string]int64{"created": 1, "shipped": 2, "cancelled": 1}, counts); diff != "" || err != nil {
		t.Errorf("order counts: %v (-want +got):\n%s", err, diff)
	}

	var ids []string
	for offset := 0; offset < 3; offset += 2 {
		page, total, err := q.CustomerOrders(t.Context(), "17850", offset, 2)
		if err != nil || total != 3 {
			t.Fatalf("page at %d: total %d, %v", offset, total, err)
		}
		for _, o := range page {
			ids = append(ids, o.GetId()+" "+o.GetStatus())
			if len(o.GetLines()) != 0 || o.GetLineCount() == 0 {
				t.Errorf("order %s in a list has %d lines and says %d", o.GetId(), len(o.GetLines()), o.GetLineCount())
			}
		}
	}
	if want := []string{"C cancelled", "B shipped", "A shipped"}; !slices.Equal(ids, want) {
		t.Errorf("the customer's orders are %v, want %v", ids, want)
	}
	if page, total, err := q.CustomerOrders(t.Context(), "nobody", 0, 10); len(page) != 0 || total != 0 || err != nil {
		t.Errorf("orders of nobody: %v, %d, %v", page, total, err)
	}

	for code, want := range map[string][2]int64{"cup": {94, 0}, "CUP": {97, 0}, "pot/1": {100, 1}} {
		s, err := q.Stock(t.Context(), code)
		if err != nil || s.GetOnHand() != want[0] || s.GetReserved() != want[1] || s.GetStockCode() != code {
			t.Errorf("stock of %s is %v, %v, want %v", code, s, err, want)
		}
	}
	if _, err := q.Stock(t.Context(), "nothing"); !errors.Is(err, queries.ErrNotFound) {
		t.Errorf("stock of a code that is not there: %v, want ErrNotFound", err)
	}
	figures, err := q.KeyFigures(t.Context())
	if want := (views.KeyFigures{Orders: 4, Shipped: 2, StockCodes: 3, OnHand: 291}); figures != want || err != nil {
		t.Errorf("figures are %+v, %v, want %+v", figures, err, want)
	}
	if _, err := q.Sales(t.Context(), api.SalesQuery{Group: api.SalesByDay, Limit: 1}); !errors.Is(err, queries.ErrUnavailable) {
		t.Errorf("sales without tables: %v, want ErrUnavailable", err)
	}
}

func TestSales(t *testing.T) {
	q := fold(t, smallShop(t), openTables(t, testenv.SharedClickHouse(t)))
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const cup, newCup, bigCup, pot = "A CUP", "CUP, NEW", "BIG CUP", "POT"
	for _, c := range []struct {
		name string
		ask  api.SalesQuery
		want []string // key net units lines documents description
	}{
		{"days", api.SalesQuery{Group: api.SalesByDay}, []string{
			"2010-12-31 37.61 6 3 1 ", "2011-01-15 8 4 1 1 ", "2011-01-16 -2.5 -1 1 1 ", "2011-02-15 0.125 1 1 1 ",
		}},
		{"months", api.SalesQuery{Group: api.SalesByMonth}, []string{"2010-12 37.61 6 3 1 ", "2011-01 5.5 3 2 2 ", "2011-02 0.125 1 1 1 "}},
		{"countries", api.SalesQuery{Group: api.SalesByCountry}, []string{"France 35.235 6 5 3 ", "EIRE 8 4 1 1 "}},
		{"products", api.SalesQuery{Group: api.SalesByProduct}, []string{
			"CUP 30 3 1 1 " + bigCup, "cup 13.11 6 4 3 " + cup, "pot/1 0.125 1 1 1 " + pot,
		}},
		{"a page", api.SalesQuery{Group: api.SalesByProduct, Limit: 1, Offset: 1}, []string{"cup 13.11 6 4 3 " + cup}},
		{"a page beyond the end", api.SalesQuery{Group: api.SalesByProduct, Limit: 5, Offset: 9}, nil},
		{"days of January", api.SalesQuery{Group: api.SalesByDay, From: day("2011-01-01"), To: day("2011-01-31")}, []string{
			"2011-01-15 8 4 1 1 ", "2011-01-16 -2.5 -1 1 1 ",
		}},
		{"products of January", api.SalesQuery{Group: api.SalesByProduct, From: day("2011-01-01"), To: day("2011-01-31")}, []string{
			"cup 5.5 3 2 2 " + cup, "pot/1 0 0 0 0 ",
		}},
		{"products of a day", api.SalesQuery{Group: api.SalesByProduct, From: day("2011-01-16"), To: day("2011-01-16")}, []string{"cup -2.5 -1 1 1 "}},
		{"products of a country", api.SalesQuery{Group: api.SalesByProduct, Country: "EIRE"}, []string{"cup 8 4 1 1 " + newCup}},
		{"a country that is not there", api.SalesQuery{Group: api.SalesByDay, Country: "' OR 1 = 1 --"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.ask.Limit == 0 {
				c.ask.Limit = 100
			}
			rows, err := q.Sales(t.Context(), c.ask)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rows {
				got = append(got, fmt.Sprintf("%s %s %d %d %d %s", r.GetKey(), r.GetNet(), r.GetUnits(), r.GetLines(), r.GetDocuments(), r.GetDescription()))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := q.Sales(t.Context(), api.SalesQuery{Group: "by-weather", Limit: 1}); err == nil {
		t.Error("a grouping that is unknown succeeds")
	}
}

// An analyst's views say the same as the queries.
func TestTablesForAnalysts(t *testing.T) {
	log := smallShop(t)
	v := openTables(t, testenv.SharedClickHouse(t))
	fold(t, log, v)
	for sql, want := range map[string]string{
		"SELECT order_id, customer_id, country, total, lines, status, version, toString(placed_at) AS placed, toString(toDate(shipped_at)) AS shipped FROM {db}.orders ORDER BY order_id": "" +
			"A 17850 France 37.61 3 shipped 3 2010-12-31 23:59:00.000 2010-12-31\n" +
			"B 17850 EIRE 8 1 shipped 3 2011-01-15 10:00:00.000 2011-01-15\n" +
			"C 17850 France 7.005 2 cancelled 2 2011-01-15 11:00:00.000 1970-01-01\n" +
			"D  France 0.125 1 created 1 2011-02-15 10:00:00.000 1970-01-01\n",
		"SELECT month, net FROM {db}.sales_by_month ORDER BY month":                                                                              "2010-12 37.61\n2011-01 5.5\n2011-02 0.125\n",
		"SELECT stock_code, sum(on_hand) AS a, sum(reserved) AS b FROM {db}.stock_movements GROUP BY stock_code ORDER BY stock_code":             "CUP 97 0\ncup 94 0\npot/1 100 1\n",
		"SELECT kind, count() AS n, sum(amount) AS amount FROM {db}.payments GROUP BY kind ORDER BY kind":                                        "authorized 2 45.61\ncaptured 2 45.61\nrefunded 1 2.5\n",
		"SELECT document, count() AS n, sum(sign) AS s FROM {db}.order_lines GROUP BY document ORDER BY document":                                "A 3 3\nB 1 1\nC 4 0\nD 1 1\nR 1 1\n",
		"SELECT sum(net) AS a, sum(unit_price * quantity * sign) AS b FROM {db}.order_lines":                                                     "43.235 43.235\n",
		"SELECT status, count() AS n FROM {db}.order_changes WHERE position > 0 GROUP BY status ORDER BY status":                                 "cancelled 1\nconfirmed 2\ncreated 4\nshipped 2\n",
		"SELECT count() AS n FROM {db}.order_lines WHERE day = toDate32('2011-01-16') AND stock_code = 'cup' AND description LIKE '%CUP%'":       "1\n",
		"SELECT engine AS e, count() AS n FROM system.tables WHERE database = '{db}' AND name LIKE 'sales_by_%' GROUP BY engine ORDER BY engine": "View 4\n",
	} {
		got := ""
		for row, err := range v.Query(t.Context(), sql) {
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			got += spell(sql, row) + "\n"
		}
		if got != want {
			t.Errorf("%s gives\n%s, want\n%s", sql, got, want)
		}
	}
	if diff, err := v.Diff(context.Background(), log); err != nil || len(diff) > 0 {
		t.Errorf("Diff: %v, %v", diff, err)
	}
}

// spell writes a row in the order in which the statement names its columns.
func spell(sql string, row map[string]any) string {
	type column struct {
		at   int
		text string
	}
	head, _, _ := strings.Cut(sql, " FROM ")
	var columns []column
	for name, value := range row {
		columns = append(columns, column{nameEnd(head, name), fmt.Sprint(value)})
	}
	slices.SortFunc(columns, func(a, b column) int { return a.at - b.at })
	words := make([]string, len(columns))
	for i, c := range columns {
		words[i] = c.text
	}
	return strings.Join(words, " ")
}

// nameEnd is where a select list comes to a column's name: behind AS, or as an item of its own.
func nameEnd(head, name string) int {
	for _, form := range []string{" AS " + name + ",", " AS " + name + "$", " " + name + ",", " " + name + "$"} {
		if i := strings.Index(head+"$", form); i >= 0 {
			return i
		}
	}
	return -1
}

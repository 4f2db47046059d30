package views

import (
	"context"

	"github.com/tributary-es/tributary/commerce/order"
)

// KeyFigures are read back from the keys.
type KeyFigures struct {
	Orders, Shipped, StockCodes, OnHand int64
}

// RowFigures are read back from the tables. Amounts are exact decimals.
type RowFigures struct {
	// Lines of all papers, less those that were taken back; distinct papers, returns among them, and customers that have some.
	Lines, Invoices, Returns, Customers uint64
	Net                                 string
	ByMonth, ByCountry, ByStock         map[string]string
}

// KeyFigures reads figures of the whole shop back from the keys.
func (q Queries) KeyFigures(ctx context.Context) (KeyFigures, error) {
	var f KeyFigures
	counts, err := q.OrderCounts(ctx)
	if err != nil {
		return f, err
	}
	for _, n := range counts {
		f.Orders += n
	}
	f.Shipped = counts[string(order.Shipped)]
	_, codes, err := q.Keys.SortedPage(ctx, stockCodesKey, 0, 0)
	if err != nil {
		return f, err
	}
	f.StockCodes = int64(codes)
	totals, err := q.numbers(ctx, stockTotalsKey)
	f.OnHand = totals["on_hand"]
	return f, err
}

// A paper whose number begins with C is a return, also when nothing on it came back. Papers and customers count as long as one
// of their lines was not taken back.
const figuresOfLines = `
SELECT
    sum(d.lines) AS lines,
    countIf(d.lines > 0) AS invoices,
    countIf(d.returned > 0 OR d.adjusted > 0 AND startsWith(d.document, 'C')) AS returns,
    (
        SELECT count() FROM
        (
            SELECT c.customer_id FROM {db}.order_lines AS c WHERE c.customer_id != '' GROUP BY c.customer_id HAVING sum(c.sign) > 0
        )
    ) AS customers,
    sum(d.net) AS net
FROM
(
    SELECT
        document,
        sum(toInt64(s.sign)) AS lines,
        sumIf(toInt64(s.sign), s.kind = 'return') AS returned,
        sumIf(toInt64(s.sign), s.kind = 'adjustment') AS adjusted,
        sum(s.net) AS net
    FROM {db}.order_lines AS s
    GROUP BY document
) AS d`

// RowFigures reads figures of the whole shop back from the tables: the totals from the lines themselves, the others from
// the tables that aggregate them.
func (q Queries) RowFigures(ctx context.Context) (RowFigures, error) {
	var f RowFigures
	for row, err := range q.query(ctx, figuresOfLines) {
		if err != nil {
			return f, err
		}
		f.Lines, f.Invoices = uint64(row.number("lines")), uint64(row.number("invoices"))
		f.Returns, f.Customers = uint64(row.number("returns")), uint64(row.number("customers"))
		f.Net = row.text("net")
	}
	var err error
	if f.ByMonth, err = q.sums(ctx, "SELECT month AS key, net FROM {db}.sales_by_month"); err != nil {
		return f, err
	}
	if f.ByCountry, err = q.sums(ctx, "SELECT toString(country) AS key, net FROM {db}.sales_by_country"); err != nil {
		return f, err
	}
	f.ByStock, err = q.sums(ctx, "SELECT toString(stock_code) AS key, net FROM {db}.sales_by_product")
	return f, err
}

func (q Queries) sums(ctx context.Context, sql string) (map[string]string, error) {
	out := make(map[string]string)
	for row, err := range q.query(ctx, sql) {
		if err != nil {
			return nil, err
		}
		out[row.text("key")] = row.text("net")
	}
	return out, nil
}

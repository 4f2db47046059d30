package views

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// grouping is how sales are summed up by one thing: which column of which table is the key, and in which order rows come.
type grouping struct {
	table, key, order string
	described         bool
}

var groupings = map[string]grouping{
	api.SalesByDay:     {table: "sales_daily", key: "toString(s.day)", order: "key"},
	api.SalesByMonth:   {table: "sales_daily", key: "formatDateTime(s.day, '%Y-%m')", order: "key"},
	api.SalesByCountry: {table: "sales_daily", key: "toString(s.country)", order: "net DESC, key"},
	api.SalesByProduct: {table: "sales_monthly", key: "toString(s.stock_code)", order: "net DESC, key", described: true},
}

// Measures of the tables that aggregate, and of the lines themselves.
const (
	aggregated = "sum(s.net) AS net, sum(s.units) AS units, sum(s.lines) AS lines, sum(s.documents) AS documents"
	fromLines  = "sum(s.net) AS net, sum(s.quantity * s.sign) AS units, sum(toInt64(s.sign)) AS lines," +
		" sum(toInt64(s.of_product) * s.sign) AS documents"
	aggregatedDescription = ", argMaxIfMerge(s.description) AS description"
	lineDescription       = ", argMaxIf(toString(s.description), s.at, s.description != '' AND s.kind = 'order') AS description"
)

// Sales returns net sales: days and months in order of time, countries and products from the highest net down.
func (q Queries) Sales(ctx context.Context, ask api.SalesQuery) ([]*commerceapiv1.SalesRow, error) {
	g, ok := groupings[ask.Group]
	if !ok {
		return nil, fmt.Errorf("%w: group %q of sales is unknown", eventstore.ErrInvalid, ask.Group)
	}
	table, day, measures, description := g.table, "s.day", aggregated, aggregatedDescription
	if g.table == "sales_monthly" {
		if day = "s.month"; !wholeMonths(ask.From, ask.To) {
			table, day, measures, description = linesTable, "s.day", fromLines, lineDescription
		}
	}
	if !g.described {
		description = ""
	}
	var where []string
	var args []any
	add := func(condition string, arg any) {
		where = append(where, condition)
		args = append(args, arg)
	}
	if !ask.From.IsZero() {
		add(day+" >= toDate32(?)", ask.From.Format(time.DateOnly))
	}
	if !ask.To.IsZero() {
		add(day+" <= toDate32(?)", ask.To.Format(time.DateOnly))
	}
	if ask.Country != "" {
		add("s.country = ?", ask.Country)
	}
	sql := "SELECT " + g.key + " AS key, " + measures + description + " FROM {db}." + table + " AS s"
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	sql += " GROUP BY key ORDER BY " + g.order + " LIMIT ? OFFSET ?"
	args = append(args, ask.Limit, ask.Offset)

	rows := []*commerceapiv1.SalesRow{}
	for row, err := range q.query(ctx, sql, args...) {
		if err != nil {
			return nil, err
		}
		r := &commerceapiv1.SalesRow{Net: row.text("net"), Units: row.number("units"), Key: row.text("key")}
		r.Lines, r.Documents = uint64(max(0, row.number("lines"))), uint64(max(0, row.number("documents")))
		if g.described {
			r.Description = row.text("description")
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// wholeMonths reports whether the days from one to the other, both included, are whole months.
func wholeMonths(from, to time.Time) bool {
	return (from.IsZero() || from.Day() == 1) && (to.IsZero() || to.AddDate(0, 0, 1).Day() == 1)
}

// tableRow is a row of a result.
type tableRow map[string]any

func (r tableRow) text(column string) string { return fmt.Sprint(r[column]) }

func (r tableRow) number(column string) int64 {
	switch n := r[column].(type) {
	case int64:
		return n
	case uint64:
		return int64(n)
	}
	return 0
}

// query runs a statement over the tables.
func (q Queries) query(ctx context.Context, sql string, args ...any) func(yield func(tableRow, error) bool) {
	return func(yield func(tableRow, error) bool) {
		if q.Rows == nil {
			yield(nil, fmt.Errorf("%w: there are no tables here", queries.ErrUnavailable))
			return
		}
		for row, err := range q.Rows.Query(ctx, sql, args...) {
			if !yield(row, err) {
				return
			}
		}
	}
}

// Package views holds the read models of the shop and answers from them.
//
//	events of order, inventory, payment, return ─► Keys: hashes and sorted sets (Redis), one order or stock at a time
//	                                            └► Rows: tables (ClickHouse), every line and movement, sums over them
//
// Keys and Rows are pure folds. Queries reads what they wrote through the interfaces of package queries and implements
// api.Views; no driver is seen here.
//
// # Keys, as redis-cli shows them behind the projection's prefix
//
//	order:<id>             hash: id customer_id status country currency total placed_at line_count version lines (JSON)
//	                       delivery, when the order said whom the goods are delivered to
//	personal:<id>          hash: whom each order of a customer is delivered to (JSON), by the order's id; deleted when the
//	                       customer is erased, so that an order with delivery that is not here is erased
//	customer-orders:<id>   sorted set: ids of a customer's orders by the time they were placed, in milliseconds since 1970
//	order-counts           hash: number of orders by status
//	stock:<code>           hash: stock_code on_hand reserved
//	stock-codes            sorted set: all stock codes, in no order
//	stock-totals           hash: on_hand reserved, summed over all codes
//
// # Rows
//
// The tables are those of schemas/clickhouse/shop. order_lines has every line of every paper, as written: an order's sold
// lines, a return's with negative quantities, and the lines from which stock or payments were adjusted. Sums over
// quantity × unit_price × sign are net sales; the lines of a cancelled order stand there again with sign -1.
package views

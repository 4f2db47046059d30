// Package retail turns files of retail invoice lines into a plan of work for the
// shop: opening stock, orders, stock adjustments, returns, payment adjustments.
//
//	CSV files ──Read──► Set (checked, compact) ──Plan──► Items, in time order
//
// It is pure: it reads the files it is given and nothing else, issues no
// command, knows no store, no clock and no randomness. The same files give the
// same plan with the same keys, in whatever order they are named.
//
// # Input
//
// A file is CSV in UTF-8 (RFC 4180), plain or gzip, known by its first bytes and
// not by its name. A byte order mark and CRLF are tolerated. The first record
// names the columns, in any order: InvoiceNo, StockCode, Description, Quantity,
// InvoiceDate, UnitPrice, CustomerID, Country, exactly these eight. All files are
// read and checked whole before [Read] returns; what is wrong comes back as
// [InputError]s, at most [MaxProblems] of them joined.
//
// InvoiceDate is local shop time without a zone. It is kept as written, in a
// time.Time whose zone is UTC: days and months are those of the shop. Amounts
// are in [Currency].
//
// # From lines to work
//
// An invoice of digits is an order, one of C and digits a return, one of A and
// digits a payment adjustment. Every line ends in exactly one item:
//
//	invoice   line                                     item
//	digits    quantity > 0 and price > 0               Order, one for the invoice
//	digits    any other                                StockAdjustment by Quantity
//	C         quantity < 0 and price >= 0              Return, one for the invoice
//	C         any other                                StockAdjustment by −Quantity
//	A         any                                      PaymentAdjustment
//
// So the lines of an Order are always sold and paid, and those of a Return
// always come back for a refund that is not negative. The fourth row is for
// correctness only: a positive quantity on a return is goods that leave again.
// No known file of this kind has more than a handful of such lines.
//
// Opening stock covers, code by code, all units that leave, so that nothing is
// refused whatever the order of work. It is computed and keyed for each file by
// itself, by the file's content: importing a file again, alone or together with
// others, repeats keys and adds nothing. After all items, the stock on hand of a
// code is what came back and what was found: opening + adjustments + returns −
// orders.
package retail

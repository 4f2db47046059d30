// Package payment is the aggregate of the money of one order, return or adjustment; its id is theirs.
//
//	Authorize ─► authorized ──Capture──► captured ──Refund──► captured, less what was refunded
//	                 │
//	                 └──────────Void───► voided
//
//	RefundUnreferenced: pays back with no payment before, for a return that names no order
//	Adjust:             records money gained or lost without goods, at any time
//
// It stands for a payment provider. An authorization is declined, with the code payment.declined, when the amount is above
// the limit that comes with the command, or when the method is MethodDeclined; nothing is recorded of it, and another
// method may be tried.
//
// Calls may come twice, late, and in the wrong order: repeated alike they do nothing. A Void that comes before its
// Authorize is recorded, so that the late Authorize is refused. A Refund with a reference and an Adjust from a document
// count once for each reference.
//
// What always holds: 0 ≤ refunded ≤ captured, refunds without a payment apart, which are alone on their stream.
//
// The package is pure: times, ids and limits come in with the commands.
package payment

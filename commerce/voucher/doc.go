// Package voucher decides over vouchers, each of which one order may redeem.
//
//	Create ─► open ──order.created.v1 with its code──► redeemed ──order.cancelled.v1──► open
//	            └───────────────Withdraw──────────────────┴─────────► withdrawn
//
// There is no event of redeeming: the order that was created with the code is it, so that voucher and order can never tell
// two stories. Redeem therefore decides nothing. It stands in one message with the order that redeems, and refuses that; of
// two orders for one voucher the second is refused, however close they are.
//
// The package is pure: times and ids come in with the commands.
package voucher

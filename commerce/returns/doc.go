// Package returns is the aggregate of a return: goods that a customer sends back.
//
//	Receive ─► received ──Complete──► completed
//
// A return is a document of its own and names no order, as the shop's papers do not. Package checkout puts the goods back
// into stock, refunds the money, and completes it. The refund is the sum of the lines, which the return decides once, when
// it is received.
//
// Other transitions are refused with the code return.invalid_transition. A repeated command is told by its id, which is
// the bus's work.
//
// The package is pure: times and ids come in with the commands.
package returns

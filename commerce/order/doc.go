// Package order is the aggregate of an order: what a customer wants to buy, and how far that has come.
//
//	Place ─► created ──Confirm──► confirmed ──Ship──► shipped
//	            │                     │
//	            └───────Cancel────────┴─────────────► cancelled
//
// The order decides. Whether it is shipped or cancelled is settled here and nowhere else; package checkout brings stock
// and payment in line with it. Of the customer it knows a reference, of the goods what the lines say.
//
// Every other transition is refused with the code order.invalid_transition, also one to the status that the order has
// already. A repeated command is told by its id, which is the bus's work: with the same id it returns the first receipt,
// with another id it is another wish, and confirming twice is a mistake that its caller should see.
//
// Where several sites moved an order at once, neither knowing of the other, the first move in canonical order counts. Moves
// that cannot follow it are void: they stay in the stream, with the reason. So an order that was cancelled here and shipped
// there is what happened first, and the goods that left all the same are what the void event tells of.
//
// The package is pure: times and ids come in with the commands.
package order

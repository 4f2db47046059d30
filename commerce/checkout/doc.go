// Package checkout brings stock and money in line with what customers order and send back. It holds two sagas.
//
// # The checkout of an order
//
//	order.created ─► reserve: Try every code ─► pay: Authorize, Confirm the order ─► ship: Capture, Confirm every code,
//	                        │                         │                                    Ship the order
//	                        ▼ refused, or too late    ▼                                         │
//	                 undo: Cancel the order, Cancel every code, Void ─► "cancelled"             └─► "shipped"
//
// Each box is one message whose commands take effect together or not at all, so nothing is ever half reserved or half
// shipped, and a checkout has three steps however many lines its order has. Lines with the same stock code are one
// reservation, named by the order's id.
//
// Whether an order is shipped or cancelled is settled by the order itself, because operators give it commands too. Every
// message that moves the order holds the order's command, so it is refused whole when somebody was faster. The saga then
// waits for the event that says who was, and goes on from there: an order that somebody else cancelled has its goods and
// money released, one that somebody else shipped has them settled. With Options.ManualShip, shipping always is somebody
// else's command.
//
// Time-outs: when goods are reserved and the payment has not answered within Options.Timeout, the order is cancelled; an
// answer that comes after all is undone.
//
// # Returns
//
//	return.received ─► settle: ReturnGoods of every code, refund, Complete the return ─► "completed"
//
// # Times
//
// The events of both sagas carry business time: that of the order, the return, or the command of whoever interfered; a
// time-out comes Options.Timeout after the order. So what is imported from papers stands at the time of the papers, and
// the same input gives the same events. When things really happened is in the envelope.
//
// # Several sites
//
// A checkout is of the site that took the order, whose goods and money it moves. What another site does to the order reaches
// it; where the order is void, since another was placed under its id, all is given back. An order that is written at another
// site now, because its cell has moved, is confirmed, shipped or cancelled there, by a person or a program; the checkout
// waits for that, or for the cell to come back, and settles goods and money here.
//
// # Trouble
//
// What must not happen, such as an order that was shipped by hand but whose goods cannot be reserved, is an error of
// React: it parks the instance until an operator has looked.
package checkout

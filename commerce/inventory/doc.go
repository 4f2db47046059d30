// Package inventory is the aggregate of the stock of one code: how many units are on hand, and how many of those are
// promised.
//
//	Receive, ReturnGoods, Adjust ─────────────► on hand
//
//	Try ─► reserved ──Confirm──► gone: on hand and reserved go down
//	          │
//	          └──────Cancel────► free again
//
// Try, Confirm and Cancel are the three calls of a two-phase promise (TCC) between this aggregate and whoever coordinates
// several of them, here package checkout, whose timers also end promises that nobody settles. A reservation is named by
// its coordinator (by the order's id) and is for all units that it wants of the code, so that an order with the same code
// on several lines makes one. Calls may come twice, late, and in the wrong order:
//
//	           no reservation      reserved       confirmed       cancelled
//	Try        reserves            nothing        nothing         refused: reservation_cancelled
//	Confirm    refused: unknown    confirms       nothing         refused: reservation_cancelled
//	Cancel     bars the late Try   releases       refused:        nothing
//	                                              confirmed
//
// Receive, ReturnGoods and Adjust from a document are counted once for each reference: repeated alike they do nothing,
// repeated with other units they are refused. So is a Try that is repeated with another quantity.
//
// What always holds: 0 ≤ reserved ≤ on hand; on hand = received + returned + adjusted − confirmed; reserved = the sum of
// the open reservations.
//
// Several sites may sell the same code. Each has units of its own: those that came in or were returned there, and those that
// another site has given it with MoveRights. Try, Adjust and MoveRights are decided against the units of their site alone, so
// nothing is sold twice though no site asks another (commands/escrow). A reservation is settled at the site that made it;
// at another one Confirm and Cancel are refused with inventory.reservation_elsewhere. What two sites have counted or reserved
// at once under one name counts at both, and is put before a person: customers may have the units already.
//
// The state remembers every reservation and reference of its code, some forty bytes each, since a late call may come at
// any time. The package is pure: times and ids come in with the commands.
package inventory

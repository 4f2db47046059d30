// Package customer decides over what a customer may do: place orders up to a credit limit.
//
// An order is open from when it is placed until it is shipped, when its payment is captured, or cancelled. The limit is on
// what is to be paid for all open orders of the customer together, in one currency. CheckCredit stands in one message with an
// order and refuses it when the sum would be above the limit; of orders that come at the same time, those that fit are
// placed, one after the other.
//
// A customer without a limit is not checked, and nothing of the orders is read then: the decision is on the limit's own
// events alone. Only with a limit it is widened to the orders.
//
// Of a customer this package knows a reference. It is pure: times and ids come in with the commands.
package customer

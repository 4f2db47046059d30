// Package cart is the aggregate of a cart: units of stock codes that a customer might order.
//
// A cart may be changed at every site, and what was done at several at once is merged without asking. It is a set of lines,
// each with an id of its own. Add puts in a line; Set puts one in place of those of its stock code that were seen; taking out
// takes out what was seen. So units that were added at two sites are all there, and what one site takes out while another
// adds to it leaves what was added. Events commute, since a line is taken out only by who has seen it put in.
//
// Nothing is promised by a cart: neither stock nor price. The package is pure: times and ids come in with the commands.
package cart

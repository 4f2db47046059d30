// Package tag names what events of several aggregates are about, so that they can be found and decided on together.
//
// A tag is "what:reference". References are those of commands: ids and codes, no personal data. One that a tag cannot hold
// stands in it by its SHA-256.
package tag

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/tributary-es/tributary/eventstore"
)

// Customer is on the events of a customer's orders.
func Customer(id string) string { return of("customer", id) }

// Credit is on the events of a customer's credit limit.
func Credit(customerID string) string { return of("credit", customerID) }

// Voucher is on the events of a voucher and of the orders that use it.
func Voucher(code string) string { return of("voucher", code) }

func of(what, reference string) string {
	if t := what + ":" + reference; len(t) <= eventstore.MaxTagBytes {
		return t
	}
	sum := sha256.Sum256([]byte(reference))
	return what + ":sha256/" + hex.EncodeToString(sum[:])
}

// Package storeapi serves the log itself: tributary.store.v1.EventStore over an eventstore.Store, for programs that bring
// their own events.
//
//	Append ─────────────► request ─► Kept? ─► Store.Append ──────────────► receipt
//	AppendSession ─► receiver ─► requests ─► Kept? ─► eventstore.Enqueue
//	                                   sender ◄── answers ◄────────┘
//	ReadStream, ReadAll, Subscribe ◄── pages (wire.Page) ◄── Store
//
// What the store promises holds for its remote callers: an answered append is as durable as it asked, nothing is shown that
// is not durable, and a subscription has neither gap nor duplicate. What it does not do: check that an event means
// anything to whoever reads it. Therefore streams and event types that the server's own aggregates, sagas and projections
// work with are kept from it, see Kept.
//
// Appends are read off the wire by hand, straight into requests, and answered in the same way (package wire). A Service is
// registered with ServiceDesc, which does that for calls.
//
// The package is registered by node for every node. It is safe for concurrent use.
package storeapi

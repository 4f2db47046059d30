// Package durable gives a store the classes of durability that its own disk cannot keep.
//
//	Request{Durability} ─► Store ─► the store below, synced ─┬─► Keeper of Kafka: the mirror
//	                                                         └─► Keeper of Peer:  the other sites
//	                          Receipt{Reached} ◄─ waits for ─┘
//
// An append that asks for a class is recorded below first, as durable as the disk makes it, and answered when the keeper of that
// class, and those of the weaker ones, keep it. What cannot be expected to come about is refused before anything is recorded;
// what does not come about in time is answered with a receipt that says what was reached, and eventstore.ErrDurabilityTimeout:
// it is recorded all the same, and the same request waits again. Nothing is weakened silently: a class without a keeper is
// refused with eventstore.ErrUnsupported.
//
// What a receipt says is computed when it is given, and never stored: receipts of other appends, and of repeated ones, tell the
// strongest class that holds by then.
package durable

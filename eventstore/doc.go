// Package eventstore defines the log: the only thing Tributary ever writes.
//
// A shard of a site keeps one log. Everything the shard knows stands in it, in one dense local order: the lsn. Events
// that were born in this shard also carry a dense seq of their own, which together with site, incarnation and shard is
// their dot, the identity they keep everywhere.
//
//	Request ─► sequencer ─► group of accepted requests ─► one synced batch ─► Receipt
//	                                                          │
//	                                        durable lsn moves; readers and subscribers may see it
//
// This package holds the vocabulary (StreamID, Position, Dot, Event, Recorded), the canonical encoding of an event
// (Frame), the hash chain, and the Store interface. The stores are pebblestore (on disk) and memstore (in memory); both
// pass the conformance suite of storetest. kafkalog copies a store's own events to Kafka.
//
// What every store promises:
//   - An acknowledged append is durable as its Receipt states, whole, and visible to every later read.
//   - Nothing beyond the durable position is ever shown, not to readers, not to subscribers, not in a refusal.
//   - lsn, seq and stream versions start at 1 and have no gaps.
//   - A request with an ID is applied at most once; repeating it returns the original receipt, also after a crash.
//   - The expectations of a request, on streams and by a Condition, are judged at one moment, against everything that was
//     accepted before it. A refusal names every one that did not hold.
//
// Values that a store hands out (payloads, tags) are shared and immutable: callers may keep them and must not change
// them. All Store methods are safe for concurrent use.
package eventstore

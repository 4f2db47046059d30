// Package pebblestore is the event store on disk: one log and one index, each a Pebble database of its own.
//
//	Append ─► prepare ─► queue ─► sequencer ─► group ─► committer ─► log database (the only thing that is synced)
//	(caller's goroutine:          judges,               syncs, publishes, answers
//	 encodes, hashes, looks       numbers,                    │
//	 up heads and ids)            chains                      ├─► recent: heads, places and ids that the index lacks
//	                                                          ├─► tail: the last events, for subscribers
//	                                                          └─► indexer ─► index database (no WAL, sorted batches)
//
// The log database holds blocks of events under their last lsn (block.go). A group is every request that was accepted
// while the sync before it ran; it is one batch with one sync.
//
// The index database says where a stream's events are, how long a stream is, and which request ids were used. It is made
// from the log, never the other way round: it remembers the lsn and the chain hash up to which it was filled, is brought
// up to date from the log when the store opens, and is thrown away and made anew when it does not fit.
//
// Who reads much of the log reads the files of its tables (log_cursor.go, which is where blocks are found). Single events are
// read by their own bytes where their table is mapped (table_map.go), else through Pebble; streams that were read are kept as
// frames (stream_cache.go). Streams and requests that are not there are told by filters in memory (hash_filter.go), which
// the index fills in the background.
//
// What may be relied on:
//   - INVARIANT: nothing beyond the lsn whose sync has returned is shown to anyone; a refusal or a duplicate's receipt
//     that rests on something not yet durable is given only once that is durable.
//   - INVARIANT: the index holds only what is durable, and what the index lacks is in memory.
//   - INVARIANT: only the sequencer numbers events, only the committer writes the log.
//   - A full disk refuses appends and nothing else, a stalled one is noticed; both pass by themselves (space.go, stall.go).
//   - A failed sync ends the process (see Options.Fatal): Pebble would otherwise report success.
package pebblestore

// Package archive keeps old blocks of a log outside of its database: in a folder, or in a bucket of an object store.
//
//	blocks of the log ─► Writer ─► Segment (bytes and what they are) ─► Bucket ─► Archive ─► blocks, by lsn
//
// A segment is a file of blocks that never changes once it is there, named after what it holds. What a block is, is its
// owner's business: here it is bytes under the lsn of its last event. Which segments a log consists of is recorded in the
// log itself, see package pebblestore; what a bucket holds besides belongs to nobody, or to another life of the log.
//
// What may be relied on:
//   - INVARIANT: a segment that was put is durable, whole, and was read back and compared with its SHA-256.
//   - What cannot be read is an eventstore.ArchiveError, which names segment and place; it may pass.
//   - A segment that is there but is not what was put is an eventstore.ArchiveDamageError. It is read anew the next time.
//   - Memory is bounded by Options.CacheBytes and the tables of a few segments.
package archive

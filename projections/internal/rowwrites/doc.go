// Package rowwrites records what a projection inserts into tables, in an encoding that the sinks share: clickview stores it
// before it inserts it, and every sink takes its digest of it.
//
//	Apply ─► Recorder (rows of each table, encoded) ─► Payload ─► blocks of a server, or tables in memory
//	                                                      └─────► Digest
//
// A row is its values one after the other, the position and the row number first. The encoding knows kinds, not widths:
// 5 is the same as int8, uint32 or int64, and an exact decimal is its text. So a row that is read back from a server
// encodes to the bytes it was written from, and its hash is the same wherever it is taken.
package rowwrites

// Package pgsync brings over what happens in tables of a PostgreSQL database, so that a program that lives on such tables can
// be moved over piece by piece: each change of a row becomes a command, or an event.
//
//	tables ─► WAL ─► logical replication slot ─► Syncer: rows as they were, then each change in commit order ─► Apply
//	                        ▲                                                                                   │
//	                        └─────────────── confirmed when Apply has returned ◄────────────────────────────────┘
//
// The Syncer is a replication.Syncer. It needs a server of version 13 or newer with wal_level = logical, and an account that may
// replicate and read the tables, owns them, or is in the role that does, and owns the publication. It makes the publication, whose comment it uses for notes, and a
// slot, and leaves them when it stops: the server then keeps its WAL for it, so drop the slot (Drop) when the Syncer is not used
// any more.
//
// What it promises:
//   - Every row that was there, and every committed change after that, is given to Apply, in the order of commits; what was rolled
//     back is not.
//   - A change is given again until Apply has returned nil for it, whatever ends in between, and always under the same ID: an
//     Apply that does what has an ID once does every change once.
//   - The rows that are there are read again, as they are then, when reading them has broken off, when a table is added, when the
//     slot was lost, and when Sync is told to begin at 0. They come after what the slot has before that moment, and under IDs of
//     their own, for a row may have been another in between: to Apply they say what the row is now.
//
// It does not promise that Apply sees a transaction as a whole, nor the old values of a row beyond its key, unless the table
// has REPLICA IDENTITY FULL. What happened between the loss of a slot and the making of the next is seen only in the rows that are
// there then: not that a row was deleted.
package pgsync

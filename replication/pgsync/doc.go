// Package pgsync brings over what happens in tables of a PostgreSQL database, so that a program that lives on such tables can
// be moved over piece by piece: each change of a row becomes a command, or an event.
//
//	tables ─► WAL ─► logical replication slot ─► Syncer: rows as they were, then each change in commit order ─► Apply
//	                        ▲                                                                                   │
//	                        └─────────────── confirmed when Apply has returned ◄────────────────────────────────┘
//
// The Syncer is a replication.Syncer. It needs a server of version 13 or newer with wal_level = logical, and an account that may
// replicate and read the tables. It makes a publication and a slot, and leaves them when it stops: the server then keeps its
// WAL for it, so drop the slot (Drop) when the Syncer is not used any more.
//
// What it promises:
//   - Every row that was there, and every committed change after that, is given to Apply, in the order of commits; what was rolled
//     back is not.
//   - A change is given again until Apply has returned nil for it, whatever ends in between, and always under the same ID: an
//     Apply that does what has an ID once does every change once.
//
// It does not promise that Apply sees a transaction as a whole, nor the old values of a row beyond its key, unless the table
// has REPLICA IDENTITY FULL.
package pgsync

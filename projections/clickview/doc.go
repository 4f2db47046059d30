// Package clickview keeps read models of tables in ClickHouse.
//
// A View is the projections.Sink of one Projection[Rows], in a database of its own. ClickHouse knows no transaction over
// several tables, and an insert is atomic only within one table's partition, so a commit is a step of three stages:
//
//	intent   one row: from, to, and all rows that will be inserted, encoded
//	inserts  one block for each table (and the views that hang on it), each with a deduplication token named after the intent
//	commit   one row: the new cursor, and how many rows each table has had
//
// The cursor is the last commit row. Whoever finds an intent without its commit (after a crash of this program, of the
// server, of the network) inserts the same blocks with the same tokens again: what had arrived is dropped by the server,
// partition by partition and view by view, and what had not arrived is added. So every row is there exactly once. The rows
// come from the intent and not from the log, so nothing needs to be read or folded again and the range cannot come out
// another one. Of two writers that want the same step only one gets its intent in; the other sees ErrCursorMoved.
//
// Readers see the tables of a step appear one after the other, within some milliseconds.
//
// A model that is lost (database or table dropped, table emptied, bookkeeping gone) is noticed by the counts in the commit
// row, at every commit and whenever the cursor is asked for, and reported as ErrNoCursor; so are, whenever the bookkeeping
// is read anew (at a start, after an error), rows of a step that the bookkeeping has forgotten. A rebuild fills the database
// <name>__next and switches by exchanging each table with its counterpart, the bookkeeping last; a switch that was cut off
// is finished by the next Open.
//
// The tables come from numbered SQL files, see package schemas/clickhouse. A table that the projection writes begins with
// the columns position (UInt64) and row (UInt32), is a plain MergeTree that keeps every row, and sets
// non_replicated_deduplication_window; so do the targets of its materialized views. Names that begin with projection_ or
// schema_ are the sink's own.
package clickview

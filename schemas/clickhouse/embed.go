// Package clickhouse holds the tables of the ClickHouse read models as numbered SQL files.
//
// In the files {db} stands for the database. Statements end with a semicolon at the end of a line, and are such that
// carrying one out twice does no harm (IF NOT EXISTS), because a crash may come between a file and the note that it was
// applied. A file that was applied somewhere is never changed: what changes comes in a new file with the next number.
//
// The folder checks holds one query a file; what it returns is where a table that is derived from others disagrees with
// them. They are not numbered and may be changed.
package clickhouse

import (
	"embed"
	"io/fs"
)

//go:embed bookkeeping/*.sql conflicts/*.sql shop/*.sql shop/checks/*.sql
var files embed.FS

// Bookkeeping returns the tables in which package clickview keeps cursors, intents and parked events.
func Bookkeeping() fs.FS { return folder("bookkeeping") }

// Shop returns the tables of the shop's read model.
func Shop() fs.FS { return folder("shop") }

// Conflicts returns the table of the conflicts between sites.
func Conflicts() fs.FS { return folder("conflicts") }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // only for a name that is not a valid path
	}
	return sub
}

package pgsync

import (
	"time"
)

// Kind says what happened to a row.
type Kind string

// The kinds of changes.
const (
	// Existing: the row was there when the Syncer began.
	Existing Kind = "existing"
	Insert   Kind = "insert"
	Update   Kind = "update"
	Delete   Kind = "delete"
	// Truncate: all rows of the table are gone; there are no columns.
	Truncate Kind = "truncate"
)

// Change is what happened to a row.
type Change struct {
	// ID names the change for good: no two have the same, and a change that comes through the slot never has another one. An
	// existing row that is read again is another change, with an ID of its own. It fits a request's ID.
	ID     string
	Kind   Kind
	Schema string
	Table  string
	// New is the row afterwards, nil when it is gone. Old is what is known of it before: its key where the key changed or the row
	// is gone, all of it where the table has REPLICA IDENTITY FULL.
	New, Old Row
	// Key names the columns of the table's replica identity, which tell its rows apart; empty where it has none.
	Key []string
	// At is when the transaction was committed; of existing rows, when they were read.
	At time.Time
}

// Row is a row's columns, in the order of the table.
type Row []Column

// Column is a column of a row.
type Column struct {
	Name string
	// Type is the OID of its type.
	Type uint32
	// Value is the column in PostgreSQL's text form.
	Value string
	Null  bool
	// Unchanged: the value is long, has not changed, and was not sent.
	Unchanged bool
}

// Get returns the value of a column; known is false when the row has none, it is null, or it was not sent.
func (r Row) Get(name string) (value string, known bool) {
	for _, c := range r {
		if c.Name == name {
			return c.Value, !c.Null && !c.Unchanged
		}
	}
	return "", false
}

// KeyOf returns what tells the row apart from others of its table: the values of its key columns, in the order of the table's;
// nil where the change is of no single row.
func (c *Change) KeyOf() []string {
	row := c.New
	if row == nil {
		row = c.Old
	}
	if row == nil {
		return nil
	}
	key := make([]string, len(c.Key))
	for i, name := range c.Key {
		key[i], _ = row.Get(name) // a key is never null
	}
	return key
}

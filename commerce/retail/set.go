package retail

import (
	"fmt"
	"iter"
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// Line is one line of an invoice. It is a value; its strings are shared and
// never change.
type Line struct {
	Invoice     string       // as written: digits, C and digits, A and digits
	Ordinal     int          // place among the lines of its invoice, from 1
	Index       int          // place among the lines of the Set, from 1
	File        string       // the file, as it was named to Read
	FileLine    int          // physical line on which its record begins, from 1
	StockCode   string       // as written: case and blanks matter
	Description string       // as written, may be empty
	Quantity    int64        // units, as written: negative on returns and write-offs
	At          time.Time    // local shop time, as written, in UTC
	UnitPrice   money.Amount // as written
	Amount      money.Amount // Quantity × UnitPrice, exact
	Customer    string       // digits, "" for a guest
	Country     string       // as written
}

// Set is the checked content of one or more files. It never changes and may be
// read by many goroutines.
//
// Lines are in order of appearance: files by the time of their first line (then
// by content, so that the order of arguments decides nothing), lines as in the
// file.
type Set struct {
	hash     string
	files    []FileInfo
	records  []record
	invoices []invoice

	// values that records refer to by number
	stocks, descriptions []string
	prices               []money.Amount
}

// FileInfo says what one file holds.
type FileInfo struct {
	Name   string    // as it was named to Read
	SHA256 string    // of the decompressed content, in hex
	Lines  int       // invoice lines
	First  time.Time // time of the first line
}

// record is a line in the compact form in which a Set keeps it.
type record struct {
	at          int64 // Unix seconds of the local time taken as UTC
	quantity    int64
	invoice     uint32
	ordinal     uint32
	stock       uint32
	description uint32
	price       uint32
	fileLine    uint32
	file        uint32
	customer    uint32 // used while the set is built: its invoice knows
	country     uint32 // the same
}

// invoice is what the lines of an invoice have in common.
type invoice struct {
	number, customer, country string
	kind                      kind
	lines                     uint32
}

// Hash identifies the content: hex SHA-256 over the sorted SHA-256 of the
// decompressed files. Names, compression and order of the files do not matter.
func (s *Set) Hash() string { return s.hash }

// Files lists the files, in the order of their lines.
func (s *Set) Files() []FileInfo { return append([]FileInfo(nil), s.files...) }

// Len is the number of lines.
func (s *Set) Len() int { return len(s.records) }

// Invoices is the number of invoices, of whatever kind.
func (s *Set) Invoices() int { return len(s.invoices) }

// Lines goes through all lines in order of appearance.
func (s *Set) Lines() iter.Seq[Line] {
	return func(yield func(Line) bool) {
		for i := range s.records {
			if !yield(s.line(i)) {
				return
			}
		}
	}
}

// line spells out the record at place i, from 0.
func (s *Set) line(i int) Line {
	r := &s.records[i]
	in := &s.invoices[r.invoice]
	price := s.prices[r.price]
	amount, err := price.Mul(r.quantity)
	if err != nil {
		panic(fmt.Sprintf("INVARIANT: the amount of every line was checked when it was read: %v", err))
	}
	return Line{
		Invoice:     in.number,
		Ordinal:     int(r.ordinal),
		Index:       i + 1,
		File:        s.files[r.file].Name,
		FileLine:    int(r.fileLine),
		StockCode:   s.stocks[r.stock],
		Description: s.descriptions[r.description],
		Quantity:    r.quantity,
		At:          time.Unix(r.at, 0).UTC(),
		UnitPrice:   price,
		Amount:      amount,
		Customer:    in.customer,
		Country:     in.country,
	}
}

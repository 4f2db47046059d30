package retail

import (
	"cmp"
	"fmt"
	"slices"
)

// overlap looks for files that tell the same story twice, as a year and a month
// of that year do: an invoice with exactly the same lines in two files. Its
// lines would count double, so the later file is refused. An invoice whose lines
// are spread over files, as when a file was cut in pieces, is no overlap.
func (s *Set) overlap() *InputError {
	begun := make([]uint32, len(s.invoices)) // file of the first line, plus 1
	shared := make(map[uint32][]record)      // lines of the invoices in several files
	var order []uint32                       // these invoices, as they recur
	for i := range s.records {
		r := &s.records[i]
		if begun[r.invoice] == 0 {
			begun[r.invoice] = r.file + 1
		}
		if _, known := shared[r.invoice]; !known && begun[r.invoice] != r.file+1 {
			shared[r.invoice] = nil
			order = append(order, r.invoice)
		}
	}
	if len(order) == 0 {
		return nil
	}
	for i := range s.records {
		r := &s.records[i]
		if lines, ok := shared[r.invoice]; ok {
			shared[r.invoice] = append(lines, *r)
		}
	}
	for _, number := range order {
		if earlier, later, found := sameTwice(shared[number]); found {
			return &InputError{
				File: s.files[later.file].Name,
				Line: int(later.fileLine),
				Problem: fmt.Sprintf("invoice %s with the same lines is also in %s, line %d",
					s.invoices[number].number, s.files[earlier.file].Name, earlier.fileLine),
				Hint: "the files overlap: name only those that do not",
			}
		}
	}
	return nil
}

// sameTwice finds two files with the same lines among the lines of one invoice,
// which are in file order, and returns the first line of it in each.
func sameTwice(lines []record) (earlier, later record, found bool) {
	var groups [][]record
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && lines[n].file == lines[0].file {
			n++
		}
		groups = append(groups, lines[:n])
		lines = lines[n:]
	}
	sorted := make([][]record, len(groups))
	for i, group := range groups {
		sorted[i] = slices.SortedFunc(slices.Values(group), compareLines)
		for k, other := range sorted[:i] {
			if slices.EqualFunc(other, sorted[i], func(x, y record) bool { return compareLines(x, y) == 0 }) {
				return groups[k][0], group[0], true
			}
		}
	}
	return record{}, record{}, false
}

// compareLines orders records by what is written in them, wherever it stands.
func compareLines(x, y record) int {
	return cmp.Or(
		cmp.Compare(x.at, y.at),
		cmp.Compare(x.stock, y.stock),
		cmp.Compare(x.quantity, y.quantity),
		cmp.Compare(x.price, y.price),
		cmp.Compare(x.description, y.description),
	)
}

package retail

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// builder collects rows into a Set. Values that occur again and again are kept
// once and referred to by number, which makes a line 56 bytes.
type builder struct {
	files   []builtFile
	records []record

	invoices, stocks, descriptions, customers, countries pool
	prices                                               []money.Amount
	priceNumbers                                         map[money.Amount]uint32
}

// builtFile is a file and where its records begin.
type builtFile struct {
	FileInfo
	begin int
}

// pool numbers distinct strings.
type pool struct {
	numbers map[string]uint32
	values  []string
}

// number returns the number of a string. The string is copied when it is new:
// what the CSV reader returns shares memory with its whole record.
func (p *pool) number(s string) uint32 {
	if n, ok := p.numbers[s]; ok {
		return n
	}
	if p.numbers == nil {
		p.numbers = make(map[string]uint32)
	}
	n, kept := uint32(len(p.values)), strings.Clone(s)
	p.numbers[kept] = n
	p.values = append(p.values, kept)
	return n
}

func newBuilder() *builder {
	return &builder{priceNumbers: make(map[money.Amount]uint32)}
}

func (b *builder) beginFile(name string) {
	b.files = append(b.files, builtFile{FileInfo: FileInfo{Name: name}, begin: len(b.records)})
}

// fileLines is the number of lines of the file at hand.
func (b *builder) fileLines() int { return len(b.records) - b.files[len(b.files)-1].begin }

// endFile ends the file at hand. If an earlier file has the same content, it
// returns that file's name.
func (b *builder) endFile(hash string) (sameAs string) {
	last := len(b.files) - 1
	file := &b.files[last]
	file.SHA256, file.Lines = hash, b.fileLines()
	file.First = time.Unix(b.records[file.begin].at, 0).UTC()
	for _, earlier := range b.files[:last] {
		if earlier.SHA256 == hash {
			return earlier.Name
		}
	}
	return ""
}

func (b *builder) add(line int, r row) {
	price, ok := b.priceNumbers[r.price]
	if !ok {
		price = uint32(len(b.prices))
		b.priceNumbers[r.price] = price
		b.prices = append(b.prices, r.price)
	}
	b.records = append(b.records, record{
		at:          r.at.Unix(),
		quantity:    r.quantity,
		invoice:     b.invoices.number(r.invoice),
		stock:       b.stocks.number(r.stock),
		description: b.descriptions.number(r.description),
		customer:    b.customers.number(r.customer),
		country:     b.countries.number(r.country),
		price:       price,
		fileLine:    uint32(line),
		file:        uint32(len(b.files) - 1),
	})
}

// finish puts the files in order, numbers the lines of each invoice and returns
// the Set. It refuses an invoice of two customers or two countries, because an
// order has one, and files that overlap.
func (b *builder) finish() (*Set, *InputError) {
	set := &Set{
		records:      b.inFileOrder(),
		invoices:     make([]invoice, len(b.invoices.values)),
		stocks:       b.stocks.values,
		descriptions: b.descriptions.values,
		prices:       b.prices,
	}
	hashes := make([]string, 0, len(b.files))
	for _, file := range b.files {
		set.files = append(set.files, file.FileInfo)
		hashes = append(hashes, file.SHA256)
	}
	slices.Sort(hashes)
	sum := sha256.Sum256([]byte(strings.Join(hashes, "\n")))
	set.hash = hex.EncodeToString(sum[:])

	firsts := make([]*record, len(set.invoices))
	for i := range set.records {
		r := &set.records[i]
		in := &set.invoices[r.invoice]
		if in.lines == 0 {
			firsts[r.invoice] = r
			number := b.invoices.values[r.invoice]
			*in = invoice{
				number: number, kind: kindOf(number),
				customer: b.customers.values[r.customer], country: b.countries.values[r.country],
			}
		}
		in.lines++
		r.ordinal = in.lines
		if problem := b.differs(set, firsts[r.invoice], r); problem != nil {
			return nil, problem
		}
	}
	if problem := set.overlap(); problem != nil {
		return nil, problem
	}
	return set, nil
}

// inFileOrder sorts the files by their first line, then by content, and returns
// the records in that order.
func (b *builder) inFileOrder() []record {
	order := make([]int, len(b.files))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		x, y := &b.files[i], &b.files[j]
		return cmp.Or(x.First.Compare(y.First), cmp.Compare(x.SHA256, y.SHA256))
	})
	if slices.IsSorted(order) {
		return b.records
	}
	records := make([]record, 0, len(b.records))
	files := make([]builtFile, 0, len(b.files))
	for place, i := range order {
		file := b.files[i]
		begin := len(records)
		records = append(records, b.records[file.begin:file.begin+file.Lines]...)
		for k := range records[begin:] {
			records[begin+k].file = uint32(place)
		}
		file.begin = begin
		files = append(files, file)
	}
	b.files, b.records = files, nil
	return records
}

// differs says how a line contradicts the first line of its invoice.
func (b *builder) differs(set *Set, first, r *record) *InputError {
	var column int
	var was, is string
	switch {
	case first.customer != r.customer:
		column, was, is = columnCustomer, b.customers.values[first.customer], b.customers.values[r.customer]
	case first.country != r.country:
		column, was, is = columnCountry, b.countries.values[first.country], b.countries.values[r.country]
	default:
		return nil
	}
	return &InputError{
		File:   set.files[r.file].Name,
		Line:   int(r.fileLine),
		Column: columnNames[column],
		Problem: fmt.Sprintf("invoice %s has %s here and %s in %s, line %d", set.invoices[r.invoice].number,
			quoted(is), quoted(was), set.files[first.file].Name, first.fileLine),
		Hint: "an invoice has one customer and one country",
	}
}

package retail

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/commerce/money"
)

// Read reads and checks the named files, all of them and to their ends, and
// returns their lines. The order of the names does not matter. If anything is
// wrong, the error holds one or more [InputError]s and there is no Set.
//
// It ends with ctx, and at maxLines. A Set of half a million lines takes about 40 MB. Files given twice, under
// whatever names, are refused by their content, and so are files that overlap: an
// invoice with the same lines in two of them would count twice.
func Read(ctx context.Context, files ...string) (*Set, error) {
	sources := make([]Source, len(files))
	for i, name := range files {
		sources[i] = File(name)
	}
	return ReadSources(ctx, sources...)
}

// ReadSources is [Read] for inputs that need not be files.
func ReadSources(ctx context.Context, sources ...Source) (*Set, error) {
	if len(sources) == 0 {
		return nil, &InputError{Problem: "no input file", Hint: "name at least one"}
	}
	r := reader{ctx: ctx, builder: newBuilder(), most: maxLines}
	for _, source := range sources {
		if !r.readSource(source) {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.name, err)
	}
	if err := r.problems.err(); err != nil {
		return nil, err
	}
	set, problem := r.builder.finish()
	if problem != nil {
		return nil, problem
	}
	return set, nil
}

// maxLines is how many lines there may be at once: all are checked before anything is written, and stay in memory until then. A
// few bytes of gzip can be millions of lines.
const maxLines = 3_000_000

// reader reads sources one after another into a builder.
type reader struct {
	ctx      context.Context //nolint:containedctx // of ReadSources, whose one call this is
	most     int             // lines of all sources
	lines    int
	problems problems
	builder  *builder
	turnover money.Amount // sum of the absolute amounts of all lines

	// of the source at hand
	name    string
	columns [columnCount]int // where in a record each column stands
	next    int              // physical line on which the next record begins, blank lines aside
}

// complain notes a problem and reports whether to go on.
func (r *reader) complain(line int, column, problem, hint string) bool {
	return r.problems.add(&InputError{File: r.name, Line: line, Column: column, Problem: problem, Hint: hint})
}

// readSource reads one source to its end and reports whether there is room for
// more problems.
func (r *reader) readSource(source Source) bool {
	r.name, r.next = source.Name, 1
	in, problem := openText(source)
	if problem != nil {
		return r.problems.add(problem)
	}
	defer in.close()

	before := len(r.problems.found)
	r.builder.beginFile(source.Name)
	records := csv.NewReader(in)
	records.FieldsPerRecord = -1 // counted here, for a better message
	records.ReuseRecord = true
	if r.readHeader(in, records) {
		r.readRows(in, records)
	}
	if r.problems.full() || len(r.problems.found) > before {
		return !r.problems.full()
	}
	if r.builder.fileLines() == 0 {
		return r.complain(0, "", "has no lines below its header", "is it the right file?")
	}
	if other := r.builder.endFile(in.hash()); other != "" {
		return r.complain(0, "", "has the same content as "+other, "name each file once")
	}
	return true
}

// readHeader finds the columns and reports whether it did.
func (r *reader) readHeader(in *text, records *csv.Reader) bool {
	header, err := records.Read()
	if errors.Is(err, io.EOF) {
		r.complain(0, "", "the file is empty", "is it the right file?")
		return false
	}
	if err != nil {
		r.unparsable(in, err)
		return false
	}
	line, _ := records.FieldPos(0)
	r.next = line + 1
	for _, name := range header {
		if problem, _ := badText(columnInvoice, name); problem != "" {
			r.complain(line, "", "the header is not text in UTF-8", "the file must be CSV in UTF-8, plain or gzip")
			return false
		}
	}
	if len(header) == 1 && strings.ContainsAny(header[0], ";\t") {
		r.complain(line, "", "the header has no comma", "separate fields by commas")
		return false
	}

	good := true
	for column, name := range columnNames {
		r.columns[column] = slices.Index(header, name)
		if r.columns[column] < 0 {
			good = false
			if !r.complain(line, name, "column is missing", "the columns are "+strings.Join(columnNames[:], ",")) {
				return false
			}
		}
	}
	if !good {
		return false // a name that is merely misspelled is told once, as missing
	}
	for i, name := range header {
		switch {
		case !slices.Contains(columnNames[:], name):
			r.complain(line, "", "unknown column "+quoted(name), "remove it")
			return false
		case slices.Index(header, name) != i:
			r.complain(line, name, "column is there twice", "remove one")
			return false
		}
	}
	return true
}

// readRows reads what is below the header.
func (r *reader) readRows(in *text, records *csv.Reader) {
	for {
		in.allow()
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.unparsable(in, err)
			return // behind a broken quote or broken data nothing can be trusted
		}
		line, _ := records.FieldPos(0)
		last, _ := records.FieldPos(len(record) - 1)
		r.next = last + strings.Count(record[len(record)-1], "\n") + 1

		if r.lines++; r.lines > r.most {
			r.complain(line, "", fmt.Sprintf("more than %d lines at once", r.most), "import fewer files at a time, in the order of time, or cut the file in pieces")
			return
		}
		if r.lines%1000 == 0 && r.ctx.Err() != nil || !r.readRow(line, record, records) {
			return
		}
	}
}

// readRow checks one record and keeps it; false if reading should end.
func (r *reader) readRow(line int, record []string, records *csv.Reader) bool {
	if len(record) != columnCount {
		return r.complain(line, "", fmt.Sprintf("%d fields instead of %d", len(record), columnCount),
			"a field with a comma in it needs quotes")
	}
	var fields [columnCount]string
	for column, i := range r.columns {
		fields[column] = record[i]
	}
	parsed, faults := parseRow(&fields)
	for _, f := range faults {
		fieldLine, _ := records.FieldPos(r.columns[f.column])
		if !r.complain(fieldLine, columnNames[f.column], f.problem, f.hint) {
			return false
		}
	}
	if faults != nil {
		return true
	}

	amount := parsed.amount
	if amount.Sign() < 0 {
		amount = amount.Neg()
	}
	turnover, err := r.turnover.Add(amount)
	if err != nil {
		r.complain(line, columnNames[columnPrice], "the amounts up to here are too large to add up", "check the prices")
		return false
	}
	r.turnover = turnover
	r.builder.add(line, parsed)
	return true
}

// unparsable words an error of the CSV reader, which may come from the text
// below it.
func (r *reader) unparsable(in *text, err error) {
	var syntax *csv.ParseError
	switch {
	case errors.Is(in.err, errLongRecord):
		r.complain(r.next, "", errLongRecord.Error(), "is a quote open?")
	case in.err != nil && !errors.Is(in.err, io.EOF):
		problem := unreadable(r.name, in.err)
		problem.Line = in.lines + 1
		r.problems.add(problem)
	case errors.As(err, &syntax) && (errors.Is(err, csv.ErrQuote) || syntax.StartLine < syntax.Line):
		r.complain(syntax.StartLine, "", "a quote is opened and not properly closed",
			`close it at the end of the field; inside, write ""`)
	case errors.As(err, &syntax):
		r.complain(syntax.Line, "", fmt.Sprintf("stray quote at byte %d", syntax.Column),
			`put the whole field in quotes and write "" inside`)
	default:
		r.problems.add(unreadable(r.name, err))
	}
}

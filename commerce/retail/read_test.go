package retail

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

const goodLine = "536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"

// content is a source that needs no file.
func content(name, data string) Source {
	return Source{Name: name, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(data)), nil
	}}
}

func gzipped(t testing.TB, data string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// read reads contents that must be good.
func read(t testing.TB, contents ...string) *Set {
	t.Helper()
	sources := make([]Source, len(contents))
	for i, c := range contents {
		sources[i] = content(fmt.Sprintf("file%d", i+1), c)
	}
	set, err := ReadSources(t.Context(), sources...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// inputErrors takes a joined error apart; anything in it that is no InputError
// fails the test, the note of a cut list aside.
func inputErrors(t testing.TB, err error) []*InputError {
	t.Helper()
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var found []*InputError
	for _, e := range all {
		var one *InputError
		switch {
		case errors.As(e, &one):
			found = append(found, one)
		case !errors.Is(e, errMore):
			t.Fatalf("%v is not an InputError", e)
		}
	}
	return found
}

func TestOneProblemOfEachKind(t *testing.T) {
	swap := func(part, with string) string {
		return header + goodLine + strings.Replace(goodLine, part, with, 1)
	}
	long := strings.Repeat("x", 3*maxRecord)
	for name, c := range map[string]struct {
		data string
		want string
	}{
		"empty file":         {"", `f: the file is empty; is it the right file?`},
		"empty gzip":         {gzipped(t, ""), `f: the file is empty; is it the right file?`},
		"only a mark":        {"\ufeff", `f: the file is empty; is it the right file?`},
		"header only":        {header, `f: has no lines below its header; is it the right file?`},
		"missing column":     {strings.Replace(header, "UnitPrice,", "", 1), `f: line 1, UnitPrice: column is missing; the columns are InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country`},
		"unknown column":     {strings.Replace(header, "Country", "Country,Shop", 1), `f: line 1: unknown column "Shop"; remove it`},
		"column twice":       {strings.Replace(header, "Country", "Country,Quantity", 1), `f: line 1, Quantity: column is there twice; remove one`},
		"semicolons":         {strings.ReplaceAll(header, ",", ";"), `f: line 1: the header has no comma; separate fields by commas`},
		"UTF-16":             {"\xff\xfeI\x00n\x00v\x00", `f: line 1: the header is not text in UTF-8; the file must be CSV in UTF-8, plain or gzip`},
		"field too many":     {swap("\n", ",x\n"), `f: line 3: 9 fields instead of 8; a field with a comma in it needs quotes`},
		"field missing":      {swap(",United Kingdom", ""), `f: line 3: 7 fields instead of 8; a field with a comma in it needs quotes`},
		"bad quantity":       {swap(",6,", ",six,"), `f: line 3, Quantity: "six" is not a whole number; write it like 6 or -6`},
		"quantity not whole": {swap(",6,", ",6.5,"), `f: line 3, Quantity: "6.5" is not a whole number; write it like 6 or -6`},
		"quantity empty":     {swap(",6,", ",,"), `f: line 3, Quantity: "" is not a whole number; write it like 6 or -6`},
		"quantity too large": {swap(",6,", ",1000000001,"), `f: line 3, Quantity: 1000000001 is too large; at most 1000000000`},
		"quantity of 1e19":   {swap(",6,", ",10000000000000000000,"), `f: line 3, Quantity: "10000000000000000000" is not a whole number; write it like 6 or -6`},
		"bad price":          {swap("2.55", "2,55"), `f: line 3: 9 fields instead of 8; a field with a comma in it needs quotes`},
		"price with symbol":  {swap("2.55", "£2.55"), `f: line 3, UnitPrice: "£2.55" is not a price; write it like 2.55, with at most 9 decimals`},
		"price exponent":     {swap("2.55", "2e5"), `f: line 3, UnitPrice: "2e5" is not a price; write it like 2.55, with at most 9 decimals`},
		"price too precise":  {swap("2.55", "0.0000000001"), `f: line 3, UnitPrice: "0.0000000001" is not a price; write it like 2.55, with at most 9 decimals`},
		"amount too large":   {swap("2.55", "999999999999999999"), `f: line 3, UnitPrice: 999999999999999999 times the quantity 6 is too large`},
		"sum too large": {
			header + strings.Repeat(strings.Replace(goodLine, "2.55", "90000000000000000", 1), 2),
			`f: line 3, UnitPrice: the amounts up to here are too large to add up; check the prices`,
		},
		"bad date":             {swap("2010-12-01 08:26:00", "01/12/2010 08:26"), `f: line 3, InvoiceDate: "01/12/2010 08:26" is not a date and time; write it like 2010-12-01 08:26:00`},
		"no such day":          {swap("2010-12-01", "2010-02-30"), `f: line 3, InvoiceDate: "2010-02-30 08:26:00" is not a date and time; write it like 2010-12-01 08:26:00`},
		"fraction of a second": {swap("08:26:00", "08:26:00.5"), `f: line 3, InvoiceDate: "2010-12-01 08:26:00.5" is not a date and time; write it like 2010-12-01 08:26:00`},
		"year out of bounds":   {swap("2010-12-01", "2110-12-01"), `f: line 3, InvoiceDate: "2110-12-01 08:26:00" is not a date and time; write it like 2010-12-01 08:26:00`},
		"bad UTF-8":            {swap("WHITE", "WEI\xdf"), `f: line 3, Description: bad UTF-8 in "WEI\xdf HANGING HEART"; save the file as UTF-8`},
		"NUL":                  {swap("85123A", "85\x0023A"), `f: line 3, StockCode: control character U+0000 in "85\x0023A"; remove it`},
		"open quote at end":    {swap("WHITE", `"WHITE`), `f: line 3: a quote is opened and not properly closed; close it at the end of the field; inside, write ""`},
		"open quote before another": {
			header + strings.Replace(goodLine, "WHITE", `"WHITE`, 1) + goodLine + strings.Replace(goodLine, "WHITE HANGING HEART", `"WHITE, BIG"`, 1),
			`f: line 2: a quote is opened and not properly closed; close it at the end of the field; inside, write ""`,
		},
		"open quote in a large file": {
			header + goodLine + strings.Replace(goodLine, "WHITE", `"WHITE`, 1) + strings.Repeat(goodLine, 30000),
			`f: line 3: record longer than 1024 KiB; is a quote open?`,
		},
		"stray quote":        {swap("WHITE", `WHI"TE`), `f: line 3: stray quote at byte 18; put the whole field in quotes and write "" inside`},
		"no line breaks":     {header + goodLine + long, `f: line 3: record longer than 1024 KiB; is a quote open?`},
		"invoice form":       {swap("536365", "X536365"), `f: line 3, InvoiceNo: "X536365" is not an invoice number; digits are an order, C and digits a return, A and digits a payment adjustment`},
		"invoice empty":      {swap("536365", ""), `f: line 3, InvoiceNo: "" is not an invoice number; digits are an order, C and digits a return, A and digits a payment adjustment`},
		"invoice small c":    {swap("536365", "c536365"), `f: line 3, InvoiceNo: "c536365" is not an invoice number; digits are an order, C and digits a return, A and digits a payment adjustment`},
		"stock code empty":   {swap("85123A", ""), `f: line 3, StockCode: "" is not a stock code; a code has 1 to 100 bytes`},
		"customer form":      {swap("17850.0", "17850.5"), `f: line 3, CustomerID: "17850.5" is not a customer; write it like 17850 or 17850.0, or leave it empty for a guest`},
		"another customer":   {swap("17850.0", "17851.0"), `f: line 3, CustomerID: invoice 536365 has "17851" here and "17850" in f, line 2; an invoice has one customer and one country`},
		"another country":    {swap("United Kingdom", "France"), `f: line 3, Country: invoice 536365 has "France" here and "United Kingdom" in f, line 2; an invoice has one customer and one country`},
		"gzip header broken": {"\x1f\x8b\x00", `f: the gzip data end too early; the file is cut off: copy it again`},
		"gzip of no method":  {"\x1f\x8b\x00" + long[:50], `f: cannot be read: gzip: invalid header; the gzip data are damaged: copy the file again`},
	} {
		set, err := ReadSources(t.Context(), content("f", c.data))
		if err == nil || set != nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if got := inputErrors(t, err); len(got) != 1 || got[0].Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		}
	}
}

func TestLineNumbersArePhysical(t *testing.T) {
	data := "\ufeff" + strings.TrimSuffix(header, "\n") + "\r\n" +
		"536365,22041,\"two\r\nlines, \"\"quoted\"\"\",6,2010-12-01 08:26:00,2.55,,France\r\n" + // 2 and 3
		"\r\n" + // 4
		"536365,22042,\"a\nb\nc\",six,2010-12-01 08:26:00,2.55,,France\r\n" + // 5 to 7
		"536365,22043,,6,2010-12-01 08:26:00,x,,France\r\n" // 8
	_, err := ReadSources(t.Context(), content("f", data))
	var at []string
	for _, e := range inputErrors(t, err) {
		at = append(at, fmt.Sprint(e.Line, " ", e.Column))
	}
	if diff := cmp.Diff([]string{"7 Quantity", "8 UnitPrice"}, at); diff != "" {
		t.Error(diff)
	}

	good := strings.Replace(strings.Replace(data, "six", "6", 1), ",x,", ",1,", 1)
	lines := slices.Collect(read(t, good).Lines())
	for i, want := range []int{2, 5, 8} {
		if lines[i].FileLine != want {
			t.Errorf("line %d begins at %d, want %d", i+1, lines[i].FileLine, want)
		}
	}
	if lines[0].Description != "two\nlines, \"quoted\"" {
		t.Errorf("description %q", lines[0].Description)
	}
}

func TestEveryProblemOfALineAndOfEveryFile(t *testing.T) {
	_, err := ReadSources(t.Context(),
		content("a", header+"X,,d,six,yesterday,free,nobody,France\n"),
		content("b", ""),
		content("c", header+goodLine),
		content("d", header+goodLine),
	)
	var got []string
	for _, e := range inputErrors(t, err) {
		got = append(got, e.File+" "+e.Column)
	}
	want := []string{"a InvoiceNo", "a StockCode", "a Quantity", "a InvoiceDate", "a UnitPrice", "a CustomerID", "b ", "d "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	bad := strings.Replace(goodLine, "2.55", "x", 1)
	_, err := ReadSources(t.Context(), content("a", header+strings.Repeat(bad, 100)), content("b", ""))
	if got := inputErrors(t, err); len(got) != MaxProblems || !errors.Is(err, errMore) {
		t.Errorf("%d problems: %v", len(got), err)
	}
}

func TestSameContentTwiceIsRefused(t *testing.T) {
	plain := header + goodLine
	_, err := ReadSources(t.Context(), content("a.csv", plain), content("b.csv.gz", gzipped(t, plain)))
	if got := inputErrors(t, err); len(got) != 1 || got[0].Error() != "b.csv.gz: has the same content as a.csv; name each file once" {
		t.Error(err)
	}
}

func TestOverlappingFilesAreRefused(t *testing.T) {
	lamp := "100,A,lamp,6,2010-12-31 23:59:00,2.5,,France\n"
	bowl := "100,B,bowl,1,2010-12-31 23:59:00,2.5,,France\n"
	other := "101,A,lamp,6,2010-12-31 23:59:00,2.5,,France\n"
	early := "99,A,lamp,6,2010-12-01 09:00:00,2.5,,France\n"

	month := content("month", header+early+lamp+bowl)
	_, err := ReadSources(t.Context(), content("crlf", strings.ReplaceAll(header+other+bowl+lamp, "\n", "\r\n")), month)
	if got := inputErrors(t, err); len(got) != 1 || got[0].Error() !=
		"crlf: line 3: invoice 100 with the same lines is also in month, line 3; the files overlap: name only those that do not" {
		t.Error(err)
	}
	// A file cut in pieces inside an invoice is none.
	for _, pieces := range [][]string{{early + lamp, bowl + other}, {early + lamp + lamp, lamp + bowl}} {
		if n := read(t, header+pieces[0], header+pieces[1]).Len(); n != strings.Count(pieces[0]+pieces[1], "\n") {
			t.Errorf("%d lines of %q", n, pieces)
		}
	}
}

func TestGzipCutOffAnywhere(t *testing.T) {
	var lines strings.Builder
	for i := range 150 {
		fmt.Fprintf(&lines, "%d,%d,DESCRIPTION %d,6,2010-12-01 08:26:00,%d.5,,France\n", 536365+i, i*7919, i*i, i)
	}
	whole := gzipped(t, header+lines.String())
	if n := read(t, whole).Len(); n != 150 {
		t.Fatalf("the whole file has %d lines", n)
	}
	for size := 2; size < len(whole); size++ {
		_, err := ReadSources(t.Context(), content("f", whole[:size]))
		got := inputErrors(t, err)
		if len(got) != 1 || !strings.HasPrefix(got[0].Problem, "the gzip data end too early") || got[0].Line > 152 {
			t.Fatalf("cut off after %d of %d bytes: %v", size, len(whole), err)
		}
	}
}

func TestDamagedGzip(t *testing.T) {
	whole := []byte(gzipped(t, header+goodLine))
	whole[len(whole)-6] ^= 1 // checksum
	_, err := ReadSources(t.Context(), content("f", string(whole)))
	if got := inputErrors(t, err); len(got) != 1 || !errors.Is(err, gzip.ErrChecksum) {
		t.Error(err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	failing := func(err error) Source {
		return Source{Name: "f", Open: func() (io.ReadCloser, error) { return nil, err }}
	}
	breaking := Source{Name: "f", Open: func() (io.ReadCloser, error) {
		broken := &fs.PathError{Op: "read", Path: "f", Err: errors.New("input/output error")}
		return io.NopCloser(io.MultiReader(strings.NewReader(header+goodLine), iotest.ErrReader(broken))), nil
	}}
	for name, c := range map[string]struct {
		source  Source
		problem string
	}{
		"directory":  {File(dir), "is a directory"},
		"missing":    {File(filepath.Join(dir, "none.csv")), "there is no such file"},
		"permission": {failing(fs.ErrPermission), "may not be read"},
		"disk":       {breaking, "cannot be read: read f: input/output error"},
	} {
		_, err := ReadSources(t.Context(), c.source)
		if got := inputErrors(t, err); len(got) != 1 || got[0].Problem != c.problem || got[0].Err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(t.Context()); len(inputErrors(t, err)) != 1 {
		t.Errorf("no file: %v", err)
	}
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	second := strings.ReplaceAll(goodLine, "2010-12-01", "2011-01-04")
	second = strings.ReplaceAll(second, "536365", "540000")
	// Named against their content: what counts is the first bytes.
	january, december := filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv.gz")
	for name, data := range map[string]string{january: gzipped(t, header+second), december: header + goodLine} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := Read(t.Context(), january, december)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(t.Context(), december, january)
	if err != nil {
		t.Fatal(err)
	}
	if set.Hash() != again.Hash() || len(set.Hash()) != 64 {
		t.Errorf("hashes %s and %s", set.Hash(), again.Hash())
	}
	if diff := cmp.Diff(slices.Collect(set.Lines()), slices.Collect(again.Lines())); diff != "" {
		t.Errorf("the order of the names matters: %s", diff)
	}
	if diff := cmp.Diff(set.Files(), again.Files()); diff != "" || set.Files()[0].Name != december {
		t.Errorf("files %v", set.Files())
	}
	if one := read(t, header+goodLine); one.Hash() == set.Hash() {
		t.Error("one file has the hash of two")
	}
}

func TestValuesAreKeptAsWritten(t *testing.T) {
	data := "Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo\n" +
		"Channel Islands,17850,0.001,2010-12-01 23:59:59,-12, gift £40\t,gift_0001_40,C536379\n" +
		",,-11062.060,2011-01-01 00:00:00,0,,B,A1\n"
	lines := slices.Collect(read(t, data).Lines())
	type written struct {
		Invoice, StockCode, Description, At, Price, Amount, Customer, Country string
		Quantity                                                              int64
	}
	var got []written
	for _, l := range lines {
		got = append(got, written{
			l.Invoice, l.StockCode, l.Description, l.At.Format("2006-01-02 15:04:05 MST"),
			l.UnitPrice.String(), l.Amount.String(), l.Customer, l.Country, l.Quantity,
		})
	}
	want := []written{
		{"C536379", "gift_0001_40", " gift £40\t", "2010-12-01 23:59:59 UTC", "0.001", "-0.012", "17850", "Channel Islands", -12},
		{"A1", "B", "", "2011-01-01 00:00:00 UTC", "-11062.06", "0", "", "", 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

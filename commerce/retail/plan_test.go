package retail

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commerce/money"
)

// describe writes an item on one line.
func describe(item Item) string {
	lines := func(lines []Line) string {
		var parts []string
		for _, l := range lines {
			parts = append(parts, fmt.Sprintf("%d:%s×%d@%s", l.Ordinal, l.StockCode, l.Quantity, l.UnitPrice))
		}
		return strings.Join(parts, " ")
	}
	who := func(customer string) string {
		if customer == "" {
			return "guest"
		}
		return customer
	}
	switch i := item.(type) {
	case OpeningStock:
		return fmt.Sprintf("opening %s %d", i.StockCode, i.Units)
	case Order:
		return fmt.Sprintf("order %s %s %s %s [%s] = %s", i.Invoice, i.At.Format("02 15:04"), who(i.Customer), i.Country, lines(i.Lines), i.Total)
	case StockAdjustment:
		return fmt.Sprintf("adjust %s %s [%s] by %d because %q", i.Line.Invoice, i.Line.At.Format("02 15:04"), lines([]Line{i.Line}), i.Change, i.Line.Description)
	case Return:
		return fmt.Sprintf("return %s %s %s %s [%s] refund %s", i.Invoice, i.At.Format("02 15:04"), who(i.Customer), i.Country, lines(i.Lines), i.Refund)
	case PaymentAdjustment:
		return fmt.Sprintf("payment %s %s %s because %q", i.Line.Invoice, i.Line.At.Format("02 15:04"), i.Line.Amount, i.Line.Description)
	}
	return "unknown"
}

func described(set *Set) []string {
	var all []string
	for item := range set.Plan().Items() {
		all = append(all, describe(item))
	}
	return all
}

func TestEachKindOfLine(t *testing.T) {
	set := read(t, header+
		"100,A,lamp,6,2010-12-02 09:00:00,2.5,17.0,France\n"+
		"100,B,broken,-2,2010-12-02 09:00:00,0.0,17.0,France\n"+ // written off on the same invoice
		"100,A,lamp,1,2010-12-02 09:01:00,2.55,17.0,France\n"+ // the same code again, a minute later
		"100,C,gift,3,2010-12-02 09:01:00,0,17.0,France\n"+ // found: price 0
		"C101,A,lamp,-4,2010-12-01 08:00:00,2.5,,EIRE\n"+ // a guest's return, earlier
		"C101,A,lamp,1,2010-12-01 08:00:00,2.5,,EIRE\n"+ // goods that leave again
		"C101,D,fee,-1,2010-12-01 08:00:00,-5,,EIRE\n"+ // a return at a negative price
		"C101,F,free,-2,2010-12-01 08:00:00,0,,EIRE\n"+ // back, for nothing
		"A102,B,Adjust bad debt,1,2010-12-03 08:00:00,-10.125,,UK\n"+
		"103,E,,1,2010-12-03 08:00:00,-7,,UK\n"+ // a negative price
		"104,A,lamp,0,2010-12-03 08:00:00,2.5,,UK\n"+ // nothing
		"105,A,wrong,-1,2010-12-03 08:00:00,2.5,,UK\n") // leaves, with a price
	want := []string{
		"opening A 9", // 6 + 1 sold, 1 left again, 1 adjusted
		"opening B 2",
		`return C101 01 08:00 guest EIRE [1:A×-4@2.5 4:F×-2@0] refund 10`,
		`adjust C101 01 08:00 [2:A×1@2.5] by -1 because "lamp"`,
		`adjust C101 01 08:00 [3:D×-1@-5] by 1 because "fee"`,
		`order 100 02 09:00 17 France [1:A×6@2.5 3:A×1@2.55] = 17.55`,
		`adjust 100 02 09:00 [2:B×-2@0] by -2 because "broken"`,
		`adjust 100 02 09:01 [4:C×3@0] by 3 because "gift"`,
		`payment A102 03 08:00 -10.125 because "Adjust bad debt"`,
		`adjust 103 03 08:00 [1:E×1@-7] by 1 because ""`,
		`adjust 104 03 08:00 [1:A×0@2.5] by 0 because "lamp"`,
		`adjust 105 03 08:00 [1:A×-1@2.5] by -1 because "wrong"`,
	}
	if diff := cmp.Diff(want, described(set)); diff != "" {
		t.Error(diff)
	}
	checkPlan(t, set)

	wantCounts := Counts{Openings: 2, Orders: 1, OrderLines: 2, StockAdjustments: 7, Returns: 1, ReturnLines: 2, PaymentAdjustments: 1}
	if got := set.Plan().Counts(); got != wantCounts || got.Items() != len(want) {
		t.Errorf("counts %+v", got)
	}
}

func TestKeysAreStable(t *testing.T) {
	december := header +
		"100,A,lamp,6,2010-12-31 23:59:00,2.5,,France\n" +
		"100,B,broken,-2,2010-12-31 23:59:00,0,,France\n" +
		"A102,B,debt,1,2010-12-31 23:59:30,7,,France\n"
	january := header + "C103,A,lamp,-6,2011-01-01 00:00:00,2.5,,France\n" +
		"104,A,lamp,1,2011-01-01 00:00:00,2.5,,France\n"
	keys := func(contents ...string) (all []string) {
		for item := range read(t, contents...).Plan().Items() {
			all = append(all, item.Key())
		}
		return all
	}
	alone := keys(december)
	want := []string{
		"retail/opening/" + read(t, december).Files()[0].SHA256[:32] + "/A",
		"retail/opening/" + read(t, december).Files()[0].SHA256[:32] + "/B",
		"retail/100/order", "retail/100/stock/2", "retail/A102/payment/1",
	}
	if diff := cmp.Diff(want, alone); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(alone, keys(gzipped(t, december))); diff != "" {
		t.Errorf("compression changes keys: %s", diff)
	}
	// A file read with another one keeps its keys, opening stock included.
	both := keys(january, december)
	for _, key := range slices.Concat(alone, keys(january)) {
		if !slices.Contains(both, key) {
			t.Errorf("%s is missing from the plan of both files", key)
		}
	}
	if len(both) != len(alone)+len(keys(january)) {
		t.Errorf("both files have %d keys", len(both))
	}
	if diff := cmp.Diff(both, keys(december, january)); diff != "" {
		t.Errorf("the order of files changes the plan: %s", diff)
	}
}

func TestInvoiceAcrossFilesIsOneOrder(t *testing.T) {
	set := read(t,
		header+"100,B,bowl,2,2011-01-01 00:00:00,1,,France\n",
		header+"100,A,lamp,6,2010-12-31 23:59:00,2.5,,France\n")
	want := []string{
		"opening A 6",
		"opening B 2",
		"order 100 31 23:59 guest France [1:A×6@2.5 2:B×2@1] = 17",
	}
	if diff := cmp.Diff(want, described(set)); diff != "" {
		t.Error(diff)
	}
	checkPlan(t, set)
}

func TestIterationMayStop(t *testing.T) {
	plan := read(t, header+goodLine+strings.Replace(goodLine, "536365", "536366", 1)).Plan()
	for stop := 1; stop <= plan.Counts().Items(); stop++ {
		seen := 0
		for range plan.Items() {
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			t.Errorf("stopped after %d instead of %d", seen, stop)
		}
	}
}

// checkPlan holds for the plan of any set: every line is in exactly one item,
// items are in time order with keys of their own, sums are those of the lines,
// and the stock of no code is ever negative.
func checkPlan(t testing.TB, set *Set) {
	t.Helper()
	plan := set.Plan()
	seen := make([]bool, set.Len())
	keys := make(map[string]bool)
	stock := make(map[string]int64)
	var planned money.Amount
	lines := 0
	account := func(item Item, group []Line, total money.Amount) {
		var sum money.Amount
		for _, l := range group {
			if seen[l.Index-1] {
				t.Fatalf("line %d is in two items", l.Index)
			}
			seen[l.Index-1] = true
			sum = mustAdd(t, sum, l.Amount)
		}
		if sum != total || len(group) == 0 || item.LineCount() != len(group) {
			t.Fatalf("%s: sum %s, total %s, %d lines", item.Key(), sum, total, len(group))
		}
		planned = mustAdd(t, planned, sum)
		lines += len(group)
	}
	items, at := 0, set.minTime()
	for item := range plan.Items() {
		items++
		if keys[item.Key()] {
			t.Fatalf("two items have the key %s", item.Key())
		}
		keys[item.Key()] = true
		first := at
		switch i := item.(type) {
		case OpeningStock:
			if lines > 0 || i.Units <= 0 {
				t.Fatalf("opening stock after %d lines, of %d units", lines, i.Units)
			}
			stock[i.StockCode] += i.Units
		case Order:
			account(i, i.Lines, i.Total)
			first = i.At.Unix()
			for _, l := range i.Lines {
				if l.Quantity <= 0 || l.UnitPrice.Sign() <= 0 {
					t.Fatalf("an order sells %d at %s", l.Quantity, l.UnitPrice)
				}
				stock[l.StockCode] -= l.Quantity
			}
		case Return:
			account(i, i.Lines, i.Refund.Neg())
			first = i.At.Unix()
			for _, l := range i.Lines {
				if l.Quantity >= 0 || l.UnitPrice.Sign() < 0 {
					t.Fatalf("a return has %d at %s", l.Quantity, l.UnitPrice)
				}
				stock[l.StockCode] -= l.Quantity
			}
		case StockAdjustment:
			account(i, []Line{i.Line}, i.Line.Amount)
			first = i.Line.At.Unix()
			stock[i.Line.StockCode] += i.Change
		case PaymentAdjustment:
			account(i, []Line{i.Line}, i.Line.Amount)
			first = i.Line.At.Unix()
		default:
			t.Fatalf("unknown item %T", item)
		}
		if first < at {
			t.Fatalf("%s goes back in time", item.Key())
		}
		at = first
		for code, units := range stock {
			if units < 0 {
				t.Fatalf("%s leaves %d units of %s", item.Key(), units, code)
			}
		}
	}
	var net money.Amount
	for l := range set.Lines() {
		net = mustAdd(t, net, l.Amount)
	}
	if lines != set.Len() || net != planned || items != plan.Counts().Items() {
		t.Fatalf("plan has %d lines, %s and %d items; set has %d, %s and %d", lines, planned, items, set.Len(), net, plan.Counts().Items())
	}
}

func (s *Set) minTime() int64 {
	earliest := s.records[0].at
	for _, r := range s.records {
		earliest = min(earliest, r.at)
	}
	return earliest
}

func mustAdd(t testing.TB, a, b money.Amount) money.Amount {
	t.Helper()
	sum, err := a.Add(b)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

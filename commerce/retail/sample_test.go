package retail

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commerce/money"
	retailsample "github.com/tributary-es/tributary/testdata/retail"
)

// -inputs compares more than the fixtures: go test ./commerce/retail -inputs 'dir/*.csv.gz'
var inputs = flag.String("inputs", "", "pattern of further retail files to compare with the script's sums")

const (
	fixtures = "../../testdata/retail/"
	script   = "../../internal/tools/retailsums/retailsums.py"
)

// figures is what the script prints.
type figures struct {
	Redis struct {
		Orders     int   `json:"orders"`
		Shipped    int   `json:"shipped"`
		StockCodes int   `json:"stock_codes"`
		OnHand     int64 `json:"on_hand"`
	} `json:"redis"`
	ClickHouse struct {
		Lines     int               `json:"lines"`
		Invoices  int               `json:"invoices"`
		Returns   int               `json:"returns"`
		Customers int               `json:"customers"`
		Net       string            `json:"net"`
		ByDay     map[string]string `json:"by_day"`
		ByMonth   map[string]string `json:"by_month"`
		ByCountry map[string]string `json:"by_country"`
		ByStock   map[string]string `json:"by_stock"`
	} `json:"clickhouse"`
}

// planned computes the figures from the items of a plan, as the read models
// would from their events.
func planned(t *testing.T, plan *Plan) figures {
	t.Helper()
	var f figures
	var net money.Amount
	byDay, byMonth := make(map[string]money.Amount), make(map[string]money.Amount)
	byCountry, byStock := make(map[string]money.Amount), make(map[string]money.Amount)
	invoices, customers := make(map[string]bool), make(map[string]bool)
	onHand := make(map[string]int64)
	see := func(l Line) {
		f.ClickHouse.Lines++
		invoices[l.Invoice] = true
		if l.Customer != "" {
			customers[l.Customer] = true
		}
		net = mustAdd(t, net, l.Amount)
		for _, sum := range []struct {
			of  map[string]money.Amount
			key string
		}{{byDay, l.At.Format(time.DateOnly)}, {byMonth, l.At.Format("2006-01")}, {byCountry, l.Country}, {byStock, l.StockCode}} {
			sum.of[sum.key] = mustAdd(t, sum.of[sum.key], l.Amount)
		}
	}
	for item := range plan.Items() {
		switch i := item.(type) {
		case OpeningStock:
			onHand[i.StockCode] += i.Units
		case Order:
			f.Redis.Orders++
			f.Redis.Shipped++
			for _, l := range i.Lines {
				see(l)
				onHand[l.StockCode] -= l.Quantity
			}
		case Return:
			for _, l := range i.Lines {
				see(l)
				onHand[l.StockCode] -= l.Quantity
			}
		case StockAdjustment:
			see(i.Line)
			onHand[i.Line.StockCode] += i.Change
		case PaymentAdjustment:
			see(i.Line)
		}
	}
	f.Redis.StockCodes = len(onHand)
	for _, units := range onHand {
		f.Redis.OnHand += units
	}
	f.ClickHouse.Invoices, f.ClickHouse.Customers = len(invoices), len(customers)
	for invoice := range invoices {
		if strings.HasPrefix(invoice, "C") {
			f.ClickHouse.Returns++
		}
	}
	f.ClickHouse.Net = net.String()
	f.ClickHouse.ByDay, f.ClickHouse.ByMonth = written(byDay), written(byMonth)
	f.ClickHouse.ByCountry, f.ClickHouse.ByStock = written(byCountry), written(byStock)
	return f
}

func written(sums map[string]money.Amount) map[string]string {
	texts := make(map[string]string, len(sums))
	for key, sum := range sums {
		texts[key] = sum.String()
	}
	return texts
}

func TestPlanAgreesWithSumsOfTheScript(t *testing.T) {
	sets := map[string][]string{
		"sample":   {fixtures + retailsample.Name},
		"fixtures": {fixtures + "adjust-bad-debt.csv", fixtures + "three-decimals.csv", fixtures + retailsample.Name},
	}
	if *inputs != "" {
		files, err := filepath.Glob(*inputs)
		if err != nil || len(files) == 0 {
			t.Fatalf("-inputs %s: %d files, %v", *inputs, len(files), err)
		}
		sets["inputs"] = files
	}
	for name, files := range sets {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command("python3", append([]string{script}, files...)...).Output()
			if err != nil {
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					t.Fatalf("%v: %s", err, exit.Stderr)
				}
				t.Fatalf("python3 is needed to compare: %v", err)
			}
			var want figures
			decoder := json.NewDecoder(strings.NewReader(string(out)))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&want); err != nil {
				t.Fatal(err)
			}
			set, err := Read(t.Context(), files...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, planned(t, set.Plan())); diff != "" {
				t.Errorf("script (-) and plan (+): %s", diff)
			}
			t.Logf("%d lines, net %s", want.ClickHouse.Lines, want.ClickHouse.Net)
		})
	}
}

func TestSample(t *testing.T) {
	set, err := ReadSources(t.Context(), Source{Name: retailsample.Name, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(retailsample.Compressed())), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, set)
	if set.Len() != 3716 || set.Invoices() != 168 {
		t.Errorf("the sample has %d lines of %d invoices; its README says 3716 of 168", set.Len(), set.Invoices())
	}
	want := Counts{Openings: 1469, Orders: 145, OrderLines: 3672, StockAdjustments: 12, Returns: 12, ReturnLines: 32}
	if got := set.Plan().Counts(); got != want {
		t.Errorf("the plan of the sample has %+v, want %+v", got, want)
	}

	// What the README of the sample promises to those who test with it.
	var guest, lower, beyondASCII, otherMinute, twice bool
	type place struct{ invoice, code string }
	codes, begun := make(map[place]bool), make(map[string]time.Time)
	for l := range set.Lines() {
		guest = guest || l.Customer == ""
		lower = lower || l.StockCode != strings.ToUpper(l.StockCode)
		beyondASCII = beyondASCII || strings.Contains(l.Description, "£")
		twice = twice || codes[place{l.Invoice, l.StockCode}]
		codes[place{l.Invoice, l.StockCode}] = true
		if first, ok := begun[l.Invoice]; ok && !first.Equal(l.At) {
			otherMinute = true
		} else {
			begun[l.Invoice] = l.At
		}
	}
	if !guest || !lower || !beyondASCII || !otherMinute || !twice {
		t.Errorf("guest %v, small letters %v, beyond ASCII %v, two minutes %v, same code twice %v",
			guest, lower, beyondASCII, otherMinute, twice)
	}
}

func TestFixtures(t *testing.T) {
	set, err := Read(t.Context(), fixtures+"adjust-bad-debt.csv")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`payment A900001 30 14:50 1200.05 because "Adjust bad debt"`,
		`payment A900002 30 14:51 -1200.05 because "Adjust bad debt"`,
		`payment A900003 30 14:52 -75.125 because "Adjust bad debt"`,
	}
	if diff := cmp.Diff(want, described(set)); diff != "" {
		t.Error(diff)
	}

	set, err = Read(t.Context(), fixtures+"three-decimals.csv")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for l := range set.Lines() {
		found = found || l.UnitPrice == money.MustParse("0.001", Currency)
	}
	if !found {
		t.Error("the fixture has no price of 0.001")
	}
}

// TestSetIsSmall bounds the memory of a set by the line: half a million lines
// must leave room for the rest of the program.
func TestSetIsSmall(t *testing.T) {
	const lines = 100_000
	var b strings.Builder
	b.WriteString(header)
	rows := strings.SplitAfter(sampleText(t), "\n")[1:]
	for i := range lines {
		b.WriteString(rows[i%3700])
	}
	data := b.String()
	b.Reset()

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	set := read(t, data)
	plan := set.Plan()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if perLine := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / lines; perLine > 120 {
		t.Errorf("a line takes %d bytes, set and plan together", perLine)
	}
	runtime.KeepAlive(plan)
	runtime.KeepAlive(data)
}

// sampleText is the sample, decompressed.
func sampleText(t testing.TB) string {
	t.Helper()
	in, problem := openText(Source{Name: retailsample.Name, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(retailsample.Compressed())), nil
	}})
	if problem != nil {
		t.Fatal(problem)
	}
	defer in.close()
	data, err := io.ReadAll(in.in)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func BenchmarkRead(b *testing.B) {
	data := sampleText(b)
	b.SetBytes(int64(len(data)))
	lines := 0
	for b.Loop() {
		lines += read(b, data).Len()
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkPlan(b *testing.B) {
	set := read(b, sampleText(b))
	lines := 0
	for b.Loop() {
		for item := range set.Plan().Items() {
			lines += item.LineCount()
		}
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

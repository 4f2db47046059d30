package views_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/clickview"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/schemas/clickhouse"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// sample are the files that ship with the repository; the second and third have what the first lacks.
var sample = []string{
	"../../testdata/retail/sample-2010-12.csv.gz",
	"../../testdata/retail/adjust-bad-debt.csv",
	"../../testdata/retail/three-decimals.csv",
}

// openTables returns the shop's tables in a database of the test's own.
func openTables(t testing.TB, srv *engine.ClickHouse) *clickview.View {
	t.Helper()
	v, err := clickview.New(views.Rows(), clickhouse.Shop(), clickview.Options{
		Addr: srv.TCPAddr(), User: srv.User(), Password: srv.Password(), Database: testenv.Unique(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// fold fills both read models from a log.
func fold(t testing.TB, log *memstore.Store, rows *clickview.View) views.Queries {
	t.Helper()
	keys := memview.NewKeys(views.Keys())
	for _, sink := range []projections.Sink{keys, rows} {
		if err := projections.Replay(t.Context(), log, sink, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		if lot, err := sink.(projections.Parking).Parked(t.Context()); err != nil || len(lot) > 0 {
			t.Fatalf("%T has parked events: %v, %v", sink, lot, err)
		}
	}
	return views.Queries{Keys: keys, Rows: rows}
}

// reference is what a script that shares no code with ours reads from the files.
type reference struct {
	Redis struct {
		Orders, Shipped int64
		StockCodes      int64 `json:"stock_codes"`
		OnHand          int64 `json:"on_hand"`
	}
	ClickHouse struct {
		Lines, Invoices, Returns, Customers uint64
		Net                                 string
		ByDay                               map[string]string `json:"by_day"`
		ByMonth                             map[string]string `json:"by_month"`
		ByCountry                           map[string]string `json:"by_country"`
		ByStock                             map[string]string `json:"by_stock"`
	}
}

func referenceOf(t testing.TB, files ...string) reference {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		testenv.Missing(t, "python3", "install python3")
	}
	out, err := exec.Command(python, append([]string{"../../internal/tools/retailsums/retailsums.py"}, files...)...).Output()
	if err != nil {
		t.Fatalf("reference sums: %v", err)
	}
	var r reference
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// D1: the sums of both models are exactly those of the files.
func TestFiguresAreThoseOfTheFiles(t *testing.T) {
	for _, files := range [][]string{sample[:1], sample[1:2], sample[2:], sample} {
		t.Run(filepath.Base(files[len(files)-1]), func(t *testing.T) {
			checkFigures(t, files...)
		})
	}
}

func checkFigures(t *testing.T, files ...string) {
	want := referenceOf(t, files...)
	q := fold(t, shopLog(t, files...), openTables(t, testenv.SharedClickHouse(t)))
	keys, err := q.KeyFigures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := want.Redis
	if diff := cmp.Diff(views.KeyFigures{Orders: r.Orders, Shipped: r.Shipped, StockCodes: r.StockCodes, OnHand: r.OnHand}, keys); diff != "" {
		t.Errorf("figures of the keys (-files +model):\n%s", diff)
	}
	rows, err := q.RowFigures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := want.ClickHouse
	if diff := cmp.Diff(views.RowFigures{
		Lines: c.Lines, Invoices: c.Invoices, Returns: c.Returns, Customers: c.Customers, Net: c.Net,
		ByMonth: c.ByMonth, ByCountry: c.ByCountry, ByStock: c.ByStock,
	}, rows); diff != "" {
		t.Errorf("figures of the tables (-files +model):\n%s", diff)
	}
}

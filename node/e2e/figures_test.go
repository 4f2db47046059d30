package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The figures of the demo's contract. They are written down here once more, so that a renamed field is noticed.
type (
	figures struct {
		Log        logFigures    `json:"log"`
		Kafka      kafkaFigures  `json:"kafka"`
		Feed       *kafkaFigures `json:"feed"`
		Redis      redisFigures  `json:"redis"`
		ClickHouse clickFigures  `json:"clickhouse"`
	}
	logFigures struct {
		Events   uint64 `json:"events"`
		Streams  uint64 `json:"streams"`
		Position uint64 `json:"position"`
		Verified bool   `json:"verified"`
	}
	kafkaFigures struct {
		Records    uint64 `json:"records"`
		Missing    uint64 `json:"missing"`
		Duplicates uint64 `json:"duplicates"`
	}
	redisFigures struct {
		Orders     int64 `json:"orders"`
		Shipped    int64 `json:"shipped"`
		StockCodes int64 `json:"stock_codes"`
		OnHand     int64 `json:"on_hand"`
	}
	clickFigures struct {
		Lines     int64             `json:"lines"`
		Invoices  int64             `json:"invoices"`
		Returns   int64             `json:"returns"`
		Customers int64             `json:"customers"`
		Net       string            `json:"net"`
		ByMonth   map[string]string `json:"by_month"`
		ByCountry map[string]string `json:"by_country"`
		ByStock   map[string]string `json:"by_stock"`
	}

	demoAnswer struct {
		figures
		Rebuild struct {
			Redis           []string `json:"redis"`
			ClickHouse      []string `json:"clickhouse"`
			RedisEqual      bool     `json:"redis_equal"`
			ClickHouseEqual bool     `json:"clickhouse_equal"`
		} `json:"rebuild"`
		Seconds struct {
			Import  float64 `json:"import"`
			CatchUp float64 `json:"catch_up"`
			Rebuild float64 `json:"rebuild"`
		} `json:"seconds"`
	}

	report struct {
		figures
		Faults []string `json:"faults"`
	}
)

// verify verifies a folder or its running server and returns the report. An exit code that does not go with the faults
// fails the test.
func verify(t *testing.T, data string, flags ...string) report {
	t.Helper()
	a := tributary(t, append([]string{"verify", "--json", "--data", data}, flags...)...)
	if a.code != 0 && a.code != 4 {
		t.Fatalf("verify: exit code %d; stderr:\n%s", a.code, tail(a.stderr, 6000))
	}
	r := decoded[report](t, a.stdout)
	if (a.code == 4) != (len(r.Faults) > 0) {
		t.Errorf("verify: exit code %d with %d faults", a.code, len(r.Faults))
	}
	return r
}

// ownEvents are events that the machinery writes when time passes or a server stops, so that their number is not the
// shop's.
var ownEvents = []string{"saga.checkpoint.v1"}

// eventCounts is how many events of each type the log in a folder has, those of the machinery apart.
func eventCounts(t *testing.T, data string, flags ...string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	text := done(t, append([]string{"events", "read", "--json", "--data", data}, flags...)...)
	for line := range strings.Lines(text) {
		var e struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("events read: %v: %s", err, line)
		}
		counts[e.Type]++
	}
	for _, own := range ownEvents {
		delete(counts, own)
	}
	return counts
}

// equalModels wants the read models to show the same.
func equalModels(t *testing.T, what string, one, other figures) {
	t.Helper()
	if diff := cmp.Diff(one.Redis, other.Redis); diff != "" {
		t.Errorf("redis, %s:\n%s", what, diff)
	}
	if diff := cmp.Diff(one.ClickHouse, other.ClickHouse); diff != "" {
		t.Errorf("clickhouse, %s:\n%s", what, tail(diff, 4000))
	}
}

// sampleFiles are the retail files that the repository has.
func sampleFiles(t *testing.T) []string {
	t.Helper()
	return []string{
		testdata(t, "sample-2010-12.csv.gz"), testdata(t, "adjust-bad-debt.csv"), testdata(t, "three-decimals.csv"),
	}
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "testdata/retail", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// sums are the figures of retail files, computed by a script that shares no code with the program.
func sums(t *testing.T, files []string) figures {
	t.Helper()
	out, err := exec.Command("python3", append([]string{filepath.Join(root, "internal/tools/retailsums/retailsums.py")}, files...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("the script of sums: %v: %s", err, exit.Stderr)
		}
		t.Fatalf("the script of sums: %v", err)
	}
	var f figures
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("the script of sums: %v", err)
	}
	if f.ClickHouse.Lines == 0 || len(f.ClickHouse.ByStock) == 0 {
		t.Fatalf("the script of sums found nothing in %s", strings.Join(files, ", "))
	}
	return f
}

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/reliability"
)

// TestScrubRepairsFromKafka flips bits in a table of a running server's log: scrub --repair names the table, has the events
// from Kafka, and then there is no fault. Shows S26, S27 and M4.
func TestScrubRepairsFromKafka(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	serve(t, data, "--clickhouse", "off").stop(t)
	done(t, "import", "retail", "--data", data, "--clickhouse", "off", testdata(t, "sample-2010-12.csv.gz")) // its end writes all of the log to tables
	s := serve(t, data, "--clickhouse", "off")
	s.caughtUp(t)
	if a := scrub(t, data, 0); len(a.Faults) > 0 || a.Tables == 0 {
		t.Fatalf("scrub of a sound folder: %+v", a)
	}
	flips := []float64{0.3, 0.05, 0.9} // not the first block, without which the log is not known, nor the last
	found, repaired := 0, 0
	for _, share := range flips {
		largest, size := "", int64(0)
		tables, err := filepath.Glob(filepath.Join(data, "store", "log", "*.sst"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range tables {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() > size {
				largest, size = path, info.Size()
			}
		}
		b, err := os.ReadFile(largest)
		if err != nil {
			t.Fatal(err)
		}
		b[int(share*float64(len(b)))] ^= 8
		f, err := os.OpenFile(largest, os.O_WRONLY, 0) // the file that the server has open
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		a := scrub(t, data, 0, "--repair")
		if len(a.Faults) != 1 || a.Faults[0].File != filepath.Base(largest) || a.Faults[0].LastLSN == 0 {
			t.Fatalf("a flip at %.2f of %s: scrub found %+v", share, largest, a.Faults)
		}
		found++
		if !a.Faults[0].Repaired {
			t.Fatalf("a flip at %.2f of %s is not repaired: %s", share, largest, a.Faults[0].Left)
		}
		repaired++
		if a := scrub(t, data, 0); len(a.Faults) > 0 {
			t.Fatalf("after the repair scrub found %+v", a.Faults)
		}
	}
	if r := verify(t, data); len(r.Faults) > 0 || r.Kafka.Records != r.Log.Events {
		t.Errorf("verify after the repairs: %v; kafka has %d records of %d events", r.Faults, r.Kafka.Records, r.Log.Events)
	}
	s.stop(t)
	reliability.Result{
		Test: "T4", What: "a bit flipped in a table of a server's log, repaired from Kafka", Cycles: len(flips), Faults: len(flips),
		Violations: 2*len(flips) - found - repaired, Extra: map[string]any{"found": found, "repaired": repaired},
	}.Print(t)
}

type scrubAnswer struct {
	Tables int
	Faults []struct {
		File     string
		LastLSN  uint64 `json:"last_lsn"`
		Repaired bool
		Left     string
	}
}

// scrub runs the command and wants its exit code.
func scrub(t *testing.T, data string, code int, flags ...string) scrubAnswer {
	t.Helper()
	a := start(t, built, append([]string{"scrub", "--json", "--data", data}, flags...)...).wait(t)
	if a.code != code {
		t.Fatalf("scrub %s ended with code %d: %s%s", strings.Join(flags, " "), a.code, a.stdout, tail(a.stderr, 2000))
	}
	return decoded[scrubAnswer](t, a.stdout)
}

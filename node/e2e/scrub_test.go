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
		largest := flip(t, data, share)
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

// flip changes a bit of the log's largest table, in the file that a server may have open, and returns its path.
func flip(t *testing.T, data string, share float64) (largest string) {
	t.Helper()
	size := int64(0)
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
	flipFile(t, largest, share)
	return largest
}

// flipFile changes a bit of a file.
func flipFile(t *testing.T, path string, share float64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at, b := int64(share*float64(info.Size())), make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 8
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestProjectionGoesOnAfterTheRepair starts a server on a log with a damaged block, over which the embedded Redis cannot be
// filled: health names the projection and why, a rebuild says so too, and after scrub --repair it goes on by itself.
func TestProjectionGoesOnAfterTheRepair(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	serve(t, data, "--clickhouse", "off").stop(t)
	done(t, "import", "retail", "--data", data, "--clickhouse", "off", testdata(t, "sample-2010-12.csv.gz"))
	flip(t, data, 0.3)
	s := serve(t, data, "--clickhouse", "off")
	eventually(t, "the projection is named as stuck", func() bool {
		return s.status(t).stuck("projection shop-redis", "damaged", "scrub --repair")
	})
	if a := tributary(t, "rebuild", "shop-redis", "--data", data); a.code != 4 || !strings.Contains(a.stderr, "scrub --repair") {
		t.Errorf("rebuild over a damaged block: exit code %d, want 4; stderr:\n%s", a.code, tail(a.stderr, 2000))
	}
	scrub(t, data, 0, "--repair")
	s.caughtUp(t)
	if st := s.status(t); st.stuck("projection shop-redis") {
		t.Errorf("after the repair the projection is said to be stuck: %+v", st.Dependencies)
	}
	done(t, "rebuild", "shop-redis", "--data", data)
	s.stop(t)
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

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kills is how often the importing process is killed.
const kills = 10

// TestKilledDuringImport kills whoever imports with -9, ten times, at random moments: sometimes a process that imports
// into a stopped folder by itself, sometimes a server that another process imports into. The import that is then repeated
// to its end leaves exactly what one undisturbed import leaves. Shows S4, S7 and C3.
func TestKilledDuringImport(t *testing.T) {
	copies := 4
	if *long {
		copies = 20
	}
	files := []string{manySamples(t, copies)}
	undisturbed := t.TempDir()
	want := demo(t, undisturbed, files)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	// A process is killed within this time of its start; it shrinks when an import was through before.
	window := time.Duration(float64(time.Second) * want.Seconds.Import * 3 / 4)
	// Once an import was through, all later ones would only repeat commands, and a kill would hit nothing that is new:
	// what was killed so far is compared, and the rest begins with a new folder.
	for left := kills; left > 0; {
		killed := 0
		data := filepath.Join(t.TempDir(), "data")
		serve(t, data).stop(t)
		for killed < left {
			after := 100*time.Millisecond + time.Duration(random.Int64N(int64(window)))
			if !killWhileImporting(t, data, files[0], killed%2 == 1, after) {
				window /= 2
				break
			}
			killed++
		}
		t.Logf("%d kills before the import was through", killed)
		left -= killed
		if killed > 0 {
			equalsUndisturbed(t, data, undisturbed, &want, files)
		}
	}
}

// equalsUndisturbed ends the import into a folder whose processes were killed, and compares it with an undisturbed one.
func equalsUndisturbed(t *testing.T, data, undisturbed string, want *demoAnswer, files []string) {
	t.Helper()
	done(t, "import", "retail", "--data", data, files[0])
	again := decoded[object](t, done(t, "import", "retail", "--json", "--data", data, files[0]))
	if again["items"] != again["repeated"] {
		t.Errorf("an import after a whole one: %v; want every command repeated", again)
	}
	r := verify(t, data)
	if len(r.Faults) > 0 {
		t.Errorf("verify found: %v", r.Faults)
	}
	if r.Kafka != (kafkaFigures{Records: r.Log.Events}) {
		t.Errorf("kafka: %+v, want %d records", r.Kafka, r.Log.Events)
	}
	equalModels(t, "- an undisturbed import, + the killed one", want.figures, r.figures)
	equalModels(t, "- the script, + the killed import", sums(t, files), r.figures)
	if diff := cmp.Diff(eventCounts(t, undisturbed), eventCounts(t, data)); diff != "" {
		t.Errorf("events by type, - an undisturbed import, + the killed one:\n%s", diff)
	}
}

// killWhileImporting imports a file and kills the process that writes after a while: the importing one, which has the
// stopped folder to itself, or a server. It returns false when the import was over before.
func killWhileImporting(t *testing.T, data, file string, server bool, after time.Duration) bool {
	t.Helper()
	var s *serving
	if server {
		s = serve(t, data)
	}
	importer := start(t, built, "import", "retail", "--data", data, file)
	victim := importer
	if server {
		victim = s.program
	}
	killed := true
	select {
	case <-importer.ended:
		killed = false
		if a := importer.wait(t); a.code != 0 {
			t.Errorf("an import that was not disturbed ended with code %d: %s", a.code, tail(a.stderr, 2000))
		}
	case <-time.After(after):
	}
	victim.kill()
	importer.kill()
	nobodyLeft(t, data)
	return killed
}

// manySamples writes a file with several copies of the sample, each with invoice numbers of its own.
func manySamples(t *testing.T, copies int) string {
	t.Helper()
	compressed, err := os.ReadFile(testdata(t, "sample-2010-12.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(plain).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "samples.csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buffered := bufio.NewWriter(f)
	w := csv.NewWriter(buffered)
	_ = w.Write(records[0]) // errors stick, and Flush returns them
	for n := range copies {
		for _, r := range records[1:] {
			kind, number := "", r[0]
			if number[0] > '9' {
				kind, number = number[:1], number[1:]
			}
			_ = w.Write(append([]string{kind + strconv.Itoa(n+1) + number}, r[1:]...)) // the same
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		t.Fatal(fmt.Errorf("write copies of the sample: %w", err))
	}
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
	return path
}

package reliability

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	update = flag.Bool("update", false, "write docs/reliability.md from docs/reliability.json")
	found  = flag.String("results", "", "a file of results, a JSON object on each line, to take into docs/reliability.json first")
)

const (
	recordPath = "../../docs/reliability.json"
	pagePath   = "../../docs/reliability.md"
)

// TestPageIsOfTheRecord keeps docs/reliability.md in step with docs/reliability.json, or brings it there.
func TestPageIsOfTheRecord(t *testing.T) {
	record := readRecord(t)
	if *update {
		if *found != "" {
			record.Merge(readResults(t, *found))
		}
		writeRecord(t, record)
		if err := os.WriteFile(pagePath, []byte(record.Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != record.Page() {
		t.Error("docs/reliability.md is not what docs/reliability.json gives: run go test ./internal/reliability -update")
	}
	for _, test := range record.unknown() {
		t.Errorf("a result is of %s, for which wanted.go has no figure", test)
	}
}

func readRecord(t *testing.T) *Record {
	t.Helper()
	text, err := os.ReadFile(recordPath)
	if err != nil {
		t.Fatal(err)
	}
	record := &Record{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(record); err != nil {
		t.Fatalf("read %s: %v", recordPath, err)
	}
	return record
}

// writeRecord writes a result a line, so that a new run is a small change.
func writeRecord(t *testing.T, r *Record) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("{\n")
	section := func(name string, n int, entry func(i int) any, end string) {
		b.WriteString(`"` + name + "\": [\n")
		for i := range n {
			line, err := json.Marshal(entry(i))
			if err != nil {
				t.Fatal(err)
			}
			b.Write(line)
			if i+1 < n {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString("]" + end + "\n")
	}
	section("results", len(r.Results), func(i int) any { return r.Results[i] }, ",")
	section("planted", len(r.Planted), func(i int) any { return r.Planted[i] }, ",")
	section("track", len(r.Track), func(i int) any { return r.Track[i] }, "")
	b.WriteString("}\n")
	if err := os.WriteFile(recordPath, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readResults(t *testing.T, path string) (results []Result) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("read %s: %v in %q", path, err, line)
		}
		results = append(results, r)
	}
	return results
}

// What is printed is what the record is made of, with the command that prints it again.
func TestPrint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results")
	t.Setenv(Collect, path)
	Result{Test: "T1", What: "a try", Cycles: 3}.Print(t)
	Result{Test: "T1", What: "another", Lost: 1, Extra: map[string]any{"refused": 1234}}.Print(t)
	got := readResults(t, path)
	if len(got) != 2 || got[0].Cycles != 3 || got[1].Lost != 1 || got[0].Form != "short" {
		t.Fatalf("collected %+v", got)
	}
	if want := "go test ./internal/reliability -run '^TestPrint$'"; got[0].Command != want {
		t.Errorf("command is %q, want %q", got[0].Command, want)
	}
	var record Record
	record.Merge(got)
	page := record.Page()
	for _, want := range []string{"lost 1 (another)", "3 of 1,000", "refused 1,234", "no run on record"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}

// A long run replaces the short one on the page, and a new run the one before it.
func TestVerdicts(t *testing.T) {
	var record Record
	record.Merge([]Result{
		{Test: "T1", What: "kills", Form: "short", Cycles: 5, Lost: 1},
		{Test: "T1", What: "kills", Form: "long", Cycles: 400, P99: 2000},
		{Test: PlantedTest, What: "a bug", Violations: 1},
	})
	verdict := func() string { return wanted[0].verdict(record.of("T1")) }
	if got, want := verdict(), "short of it: p99 2000 ms of at most 1000 (kills); 400 of 1,000"; got != want {
		t.Errorf("verdict is %q, want %q", got, want)
	}
	record.Merge([]Result{{Test: "T1", What: "kills", Form: "long", Cycles: 1000, P99: 999}})
	if got := verdict(); got != "reached" {
		t.Errorf("verdict is %q, want that it is reached", got)
	}
	each := Wanted{Cycles: 10, Each: true}
	if got, want := each.verdict([]Result{{What: "kills", Cycles: 30}, {What: "power", Cycles: 4}}), "short of it: 4 of 10 (power)"; got != want {
		t.Errorf("verdict is %q, want %q", got, want)
	}
	if !strings.Contains(record.Page(), "not caught") {
		t.Error("the page hides a planted bug that nothing caught")
	}
}

func TestPercentiles(t *testing.T) {
	var took []time.Duration
	for i := range 100 {
		took = append(took, time.Duration(100-i)*time.Millisecond)
	}
	if p50, p99 := Percentiles(took); p50 != 51 || p99 != 100 {
		t.Errorf("percentiles are %v and %v, want 51 and 100", p50, p99)
	}
}

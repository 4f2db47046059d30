package e2e

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDemo runs the demo embedded and against real servers: the figures are equal, and equal to the script's.
func TestDemo(t *testing.T) {
	files := demoFiles(t)
	want := sums(t, files)
	data, flags := [2]string{t.TempDir(), t.TempDir()}, realOnes(t).flags()
	embedded := demo(t, data[0], files)
	against := demo(t, data[1], files, flags...)
	equalModels(t, "- the script, + embedded", want, embedded.figures)
	equalModels(t, "- embedded, + against real servers", embedded.figures, against.figures)
	if diff := cmp.Diff(eventCounts(t, data[0]), eventCounts(t, data[1], flags...)); diff != "" {
		t.Errorf("events by type, - embedded, + against real servers:\n%s", diff)
	}
}

func demoFiles(t *testing.T) []string {
	t.Helper()
	if *demoInputs == "" {
		return sampleFiles(t)
	}
	files, err := filepath.Glob(*demoInputs)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match -demo.inputs %s: %v", *demoInputs, err)
	}
	return files
}

var digest = regexp.MustCompile(`^[0-9a-f]{16,}$`)

// demo runs a demo on a new folder and checks what must hold of every one.
func demo(t *testing.T, data string, files []string, flags ...string) demoAnswer {
	t.Helper()
	args := append([]string{"demo", "--once", "--json", "--data", data}, flags...)
	for _, f := range files {
		args = append(args, "--input", f)
	}
	a := decoded[demoAnswer](t, done(t, args...))
	if !a.Log.Verified || a.Log.Events == 0 || a.Log.Position < a.Log.Events {
		t.Errorf("log: %+v", a.Log)
	}
	if a.Kafka != (kafkaFigures{Records: a.Log.Events}) {
		t.Errorf("kafka: %+v, want %d records", a.Kafka, a.Log.Events)
	}
	r := a.Rebuild
	if !r.RedisEqual || !r.ClickHouseEqual || len(r.Redis) != 2 || len(r.ClickHouse) != 2 || r.Redis[0] != r.Redis[1] || r.ClickHouse[0] != r.ClickHouse[1] {
		t.Errorf("rebuild: %+v", r)
	}
	for _, d := range append(r.Redis, r.ClickHouse...) {
		if !digest.MatchString(d) {
			t.Errorf("rebuild: %q is no digest", d)
		}
	}
	if a.Seconds.Import <= 0 || a.Seconds.Rebuild <= 0 {
		t.Errorf("seconds: %+v", a.Seconds)
	}
	t.Logf("%d events of %d lines: import %.1f s, catch up %.1f s, rebuild %.1f s",
		a.Log.Events, a.ClickHouse.Lines, a.Seconds.Import, a.Seconds.CatchUp, a.Seconds.Rebuild)
	return a
}

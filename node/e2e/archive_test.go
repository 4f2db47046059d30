package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/testenv"
)

// archived is what tributary archive prints.
type archived struct {
	Events   uint64 `json:"events"`
	Archived string `json:"archived"`
}

// TestArchive archives more and more of a shop's log, with the program killed in between, then by the running server: the
// events that are read are the same, the read models that are filled from them are verified, and new commands are taken.
// An archive that is taken away is missed, and in the end dropped. Shows S28, S29, S30 and S31.
func TestArchive(t *testing.T) {
	data, folder := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "archive")
	serve(t, data, "--clickhouse", "off").stop(t)
	done(t, "import", "retail", "--data", data, "--clickhouse", "off", testdata(t, "sample-2010-12.csv.gz"))
	events := func() string {
		return done(t, "events", "read", "--json", "--data", data, "--clickhouse", "off", "--kafka", "off")
	}
	before := events()
	count := strings.Count(before, "\n")
	if count < 5000 {
		t.Fatalf("the sample has %d events", count)
	}
	for i := range 4 {
		keep := strconv.Itoa(count * (5 - i) / 6)
		p := start(t, built, "archive", "--data", data, "--to", folder, "--keep-last", keep)
		time.AfterFunc(time.Duration(rand.IntN(300))*time.Millisecond, func() { _ = p.cmd.Process.Kill() })
		<-p.ended
		done(t, "archive", "verify", "--data", data)
	}
	if after := events(); after != before {
		t.Fatal("the events are others after kills")
	}
	s := serve(t, data, "--clickhouse", "off")
	report := decoded[archived](t, done(t, "archive", "--data", data, "--to", folder, "--json", "--keep-last", "100"))
	if report.Events == 0 || report.Archived == "1-0" {
		t.Fatalf("the running server archived %+v", report)
	}
	if again := decoded[archived](t, done(t, "archive", "--data", data, "--to", folder, "--json", "--keep-last", "100")); again.Archived < report.Archived {
		t.Fatalf("archived again: %+v after %+v", again, report)
	}
	if r := verify(t, data); len(r.Faults) > 0 {
		t.Errorf("verify: %v", r.Faults)
	}
	s.stop(t)
	s = serve(t, data, "--clickhouse", "off") // the embedded Redis is filled from the archive
	s.caughtUp(t)
	if r := verify(t, data); len(r.Faults) > 0 {
		t.Errorf("verify after a start: %v", r.Faults)
	}
	if after := done(t, "events", "read", "--json", "--data", data); !strings.HasPrefix(after, before) {
		t.Error("the events are others")
	}
	s.stop(t)
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	s = serve(t, data, "--clickhouse", "off") // starts, and takes commands: what it has to know is kept near
	if code, answer := s.tries(t, "/v1/stock/MUG-ARCHIVE/receive", `{"quantity": 10}`); code != 200 {
		t.Errorf("a command while the archive is away: %d, %s", code, answer)
	}
	s.stop(t)
	a := tributary(t, "archive", "verify", "--data", data)
	if a.code != 4 || !strings.Contains(a.stdout, folder) || !strings.Contains(a.stdout, ".segment") {
		t.Errorf("verify of an archive that is not there: exit code %d, %s", a.code, a.stdout)
	}
	if err := os.Rename(folder+"-away", folder); err != nil {
		t.Fatal(err)
	}
	s = serve(t, data, "--clickhouse", "off")
	s.caughtUp(t)
	if a := tributary(t, "archive", "drop", "--data", data, "--older-than", "1s"); a.code != 2 || !strings.Contains(a.stderr, "--redis HOST:PORT") {
		t.Errorf("drop what the embedded Redis is filled from at each start: exit code %d, %s", a.code, a.stderr)
	}
	s.stop(t)
	s = serve(t, data, "--clickhouse", "off", "--redis", testenv.Redis(t).Addr())
	if a := tributary(t, "archive", "drop", "--data", data); a.code != 2 || !strings.Contains(a.stderr, "say what to drop") {
		t.Errorf("drop without a bound: exit code %d, %s", a.code, a.stderr)
	}
	s.caughtUp(t)
	s.stop(t)
	drop := decoded[struct {
		Events uint64 `json:"events"`
		First  string `json:"first"`
	}](t, done(t, "archive", "drop", "--data", data, "--older-than", "1s", "--json"))
	if drop.Events == 0 || drop.First == "1-1" {
		t.Errorf("dropped %+v", drop)
	}
	s = serve(t, data, "--clickhouse", "off")
	if code, answer := s.tries(t, "/v1/archive/verify", ""); code != 200 || strings.Contains(answer, `"faults":["`) {
		t.Errorf("verify of the archive after a drop: %d, %s", code, answer)
	}
	if a := tributary(t, "events", "read", "--data", data); a.code == 0 || !strings.Contains(a.stderr, drop.First) {
		t.Errorf("read what was dropped: exit code %d, %s", a.code, a.stderr)
	}
	s.stop(t)
	s = serve(t, data, "--clickhouse", "off") // without its old events
	if code, answer := s.tries(t, "/v1/stock/MUG-DROPPED/receive", `{"quantity": 10}`); code != 200 {
		t.Errorf("a command after a drop: %d, %s", code, answer)
	}
	s.caughtUp(t)
	s.get(t, "/v1/stock/MUG-DROPPED")
	s.stop(t)
	if a := tributary(t, "archive", "--data", data, "--to", folder); a.code != 2 || !strings.Contains(a.stderr, "say what to archive") {
		t.Errorf("archive without a bound: exit code %d, %s", a.code, a.stderr)
	}
}

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A server whose data folder is removed while it runs does not go on acknowledging into files that nobody will ever find: it ends
// with the exit code of a failed disk, and says what to do.
func TestDataFolderIsRemoved(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data, "--clickhouse", "off")
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 1}`)
	moved := time.Now()
	if err := os.Rename(data, data+"-gone"); err != nil { // at one moment, which a removal is not
		t.Fatal(err)
	}
	a := s.program.wait(t)
	if a.code != 70 || !strings.Contains(a.stderr, "was removed or moved while it was in use") {
		t.Errorf("exit code %d, want 70; stderr:\n%s", a.code, tail(a.stderr, 2000))
	}
	if took := time.Since(moved); took > 10*time.Second {
		t.Errorf("the server has gone on for %s", took)
	}
	if read := done(t, "events", "read", "--json", "--stream", "inventory/MUG-1", "--data", data+"-gone"); strings.Count(read, "\n") != 1 {
		t.Errorf("what was acknowledged before is not there: %s", read)
	}
}

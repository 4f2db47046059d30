package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/testenv"
)

// A program in another language, made with the published protos alone, appends with an expected version, reads what failed
// in a conflict, and subscribes. Invariant A1.
func TestPythonProgram(t *testing.T) {
	example, err := filepath.Abs(filepath.Join(root, "examples", "python"))
	if err != nil {
		t.Fatal(err)
	}
	packages := testenv.Python(t, filepath.Join(example, "requirements.txt"))
	stubs := t.TempDir()
	python := func(args ...string) *exec.Cmd {
		cmd := exec.Command("python3", args...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+packages+string(os.PathListSeparator)+stubs)
		return cmd
	}
	generate := python("-m", "grpc_tools.protoc", "-I", filepath.Join(root, "schemas"), "--python_out="+stubs, "--grpc_python_out="+stubs,
		"tributary/store/v1/store.proto", "tributary/api/v1/http.proto")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("make python's code of the proto: %v\n%s", err, out)
	}
	server := serve(t, t.TempDir(), "--clickhouse", "off", "--kafka", "off")
	a := launch(t, python(filepath.Join(example, "accounts.py"), server.grpc)).wait(t)
	if a.code != 0 {
		t.Fatalf("accounts.py: exit code %d\n%s\n%s", a.code, a.stdout, a.stderr)
	}
	type step struct {
		Step     string
		Version  uint64   `json:",omitempty"`
		Versions []uint64 `json:",omitempty"`
		Code     string   `json:",omitempty"`
		Want     uint64   `json:",omitempty"`
		Got      uint64   `json:",omitempty"`
		Types    []string `json:",omitempty"`
		Last     string   `json:",omitempty"`
		Found    string   `json:",omitempty"`
	}
	var got []step
	for line := range strings.Lines(a.stdout) {
		var s step
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if p, err := eventstore.ParsePosition(s.Found); err == nil && p.LSN > 0 {
			s.Found = "a position"
		}
		got = append(got, s)
	}
	want := []step{
		{Step: "log"},
		{Step: "opened", Version: 1},
		{Step: "paid in", Version: 3},
		{Step: "conflict", Code: "ABORTED", Want: 1, Got: 3},
		{Step: "refused", Code: "ABORTED", Found: "a position"},
		{Step: "read", Types: []string{"account.opened.v1", "account.paid_in.v1", "account.paid_in.v1"}, Versions: []uint64{1, 2, 3}},
		{Step: "caught up", Versions: []uint64{1, 2, 3}},
		{Step: "live", Versions: []uint64{1, 2, 3, 4}, Last: "account.closed.v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("accounts.py did not do as wanted (-want +got):\n%s", diff)
	}
}

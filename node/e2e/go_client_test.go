package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGoProgram makes a module outside of the repository of the Go example, as docs/api.md says, and runs it twice against a
// server.
func TestGoProgram(t *testing.T) {
	module := t.TempDir()
	if err := os.CopyFS(module, os.DirFS(filepath.Join(root, "examples/accounts"))); err != nil {
		t.Fatal(err)
	}
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-replace", "github.com/tributary-es/tributary="+checkout)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	path, err := build(module, t.TempDir(), "example.com/accounts")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, t.TempDir(), "--clickhouse", "off")
	for _, want := range [][]string{
		{"account.opened.v1 at 1-", `version 1 account.opened.v1 {"owner":"9"}`, "account.paid_in.v1 at 1-"},
		{`version 2 account.paid_in.v1 {"amount":"5.00"}`, "account.paid_in.v1 at 1-"},
	} {
		a := start(t, path, s.grpc).wait(t)
		if a.code != 0 || !has(a.stdout, want) || strings.Contains(a.stdout, "version 3") {
			t.Errorf("the program ended with code %d: %s%s; want %q", a.code, a.stdout, a.stderr, want)
		}
	}
}

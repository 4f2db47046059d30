package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
)

var (
	// In the long form outages last 20 seconds, and kills spread over the whole of a larger import.
	long       = reliability.Long
	demoInputs = flag.String("demo.inputs", "", "pattern of retail files for the demo, in place of the sample")
)

// built is the program under test, built once for all tests.
var built string

// root is the repository's folder.
const root = "../.."

func TestMain(m *testing.M) {
	flag.Parse()
	// The name is of the form by which testenv clears away what killed tests left.
	dir, err := os.MkdirTemp("", fmt.Sprintf("tributary-test-%d-", os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a folder for the program:", err)
		os.Exit(1)
	}
	if built, err = build(root, dir, "./cmd/tributary"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		_ = os.RemoveAll(dir) // the build has failed, which is what counts
		os.Exit(1)
	}
	testenv.Main(m, func() error { return os.RemoveAll(dir) })
}

// buildOverlaid builds the program with other texts in place of those of some source files, which are given by their paths.
func buildOverlaid(t *testing.T, texts map[string]string) (program string) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for path, text := range texts {
		original, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		replace[original] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[original], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "tributary")
	cmd := exec.Command("go", "build", "-overlay", path, "-o", program, "./cmd/tributary")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with other sources: %v\n%s", err, out)
	}
	return program
}

// build compiles the main package pkg of the module in folder module into dir and returns the program's path.
func build(module, dir, pkg string) (string, error) {
	target, err := filepath.Abs(filepath.Join(dir, filepath.Base(pkg)))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", target, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return target, nil
}

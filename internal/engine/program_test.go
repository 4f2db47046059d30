package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/engine"
)

// A program of ours is ready when it says so, has its folder to itself, is killed, comes back and ends; one that ends before it is
// ready is told with what it said.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	sign := filepath.Join(dir, "ready")
	options := engine.ProgramOptions{
		Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "touch ready; exec sleep 1000"}, Dir: dir,
		Ready: func(context.Context) bool { _, err := os.Stat(sign); return err == nil },
	}
	p, err := engine.StartProgram(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	first := p.PID()
	var inUse *engine.InUseError
	if _, err := engine.StartProgram(t.Context(), options); !errors.As(err, &inUse) {
		t.Errorf("a second one in its folder: %v", err)
	}
	p.Kill()
	if p.PID() != 0 || first == 0 {
		t.Errorf("process %d, and %d after it was killed", first, p.PID())
	}
	if err := os.Remove(sign); err != nil { // of the one before
		t.Fatal(err)
	}
	if err := p.Restart(t.Context()); err != nil || p.PID() == 0 || p.PID() == first {
		t.Errorf("started again: process %d after %d (%v)", p.PID(), first, err)
	}
	if err := os.Remove(sign); err != nil {
		t.Fatal(err)
	}
	if err := p.Replace(t.Context(), "/bin/true"); err == nil || p.PID() != 0 {
		t.Errorf("another program in its place, which ends at once: process %d (%v)", p.PID(), err)
	}
	if err := p.Replace(t.Context(), "/bin/sh"); err != nil || p.PID() == 0 {
		t.Errorf("the first one in its place again: process %d (%v)", p.PID(), err)
	}
	if err := p.Close(); err != nil || p.PID() != 0 {
		t.Errorf("closed: process %d (%v)", p.PID(), err)
	}

	options.Dir, options.Args = t.TempDir(), []string{"-c", "echo no such flag; exit 2"}
	options.Ready = func(context.Context) bool { return false }
	if _, err := engine.StartProgram(t.Context(), options); err == nil || !strings.Contains(err.Error(), "no such flag") {
		t.Errorf("one that ends at once: %v", err)
	}
}

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestSweepRemovesWhatDeadProcessesLeft(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	folder := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(path, "redis"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gone := folder(fmt.Sprintf("tributary-test-%d-1", dead.Process.Pid))
	kept := []string{folder(fmt.Sprintf("tributary-test-%d-1", os.Getpid())), folder("tributary-test-mine-1"), folder("another-1-1")}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("the folder of a dead process is still there")
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s is not there any more", path)
		}
	}
}

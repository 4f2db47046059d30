package engine

import (
	"os/exec"
	"syscall"
	"testing"
)

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestGuardKillsWhenItsPipeClosesWithoutAWord(t *testing.T) {
	child := sleeper(t)
	g, err := startGuard(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// What the kernel does to our end of the pipe when this program is killed.
	if err := g.word.Close(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if sig := child.ProcessState.Sys().(syscall.WaitStatus).Signal(); sig != syscall.SIGKILL {
		t.Errorf("the child ended with %v, want SIGKILL", sig)
	}
	_ = g.cmd.Wait()
}

func TestDismissedGuardHarmsNobody(t *testing.T) {
	child := sleeper(t)
	g, err := startGuard(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	g.dismiss()
	if g.cmd.ProcessState == nil || !g.cmd.ProcessState.Exited() {
		t.Error("the guard was not waited for")
	}
	if err := child.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the child is gone: %v", err)
	}
}

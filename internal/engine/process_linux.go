package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// childAttributes puts the child into a process group of its own and has the kernel kill it when we are gone.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// stopPatience is how long the threads of a process may take to stop; on a busy machine the first of them has to get its turn.
const stopPatience = 10 * time.Second

// awaitStopped returns when all threads of a process that was sent SIGSTOP have stopped: until the signal is taken they go on.
func awaitStopped(pid int) error {
	for end := time.Now().Add(stopPatience); ; time.Sleep(100 * time.Microsecond) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return fmt.Errorf("look whether process %d has stopped: %w", pid, err)
		}
		going := 0
		for _, stat := range stats {
			line, err := os.ReadFile(stat)
			_, rest, ok := bytes.Cut(line, []byte(") ")) // what stands in brackets is the thread's name
			if err == nil && ok && len(rest) > 0 && rest[0] != 'T' {
				going++
			}
		}
		switch {
		case going == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("process %d was sent SIGSTOP, and %d of its threads go on after %s", pid, going, stopPatience)
		}
	}
}

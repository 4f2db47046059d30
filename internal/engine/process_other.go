//go:build !linux

package engine

import "syscall"

// childAttributes puts the child into a process group of its own.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// awaitStopped returns at once: how the threads of a process are is told by Linux alone.
func awaitStopped(int) error { return nil }

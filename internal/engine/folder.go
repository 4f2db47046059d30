package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// InUseError says that another process works on a server's folder.
type InUseError struct {
	Dir string
	By  string // what the other process wrote about itself: "process 4711, started by process 4700 (tributary)"
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s: stop that one first, or name another folder", e.Dir, e.By)
}

// lockFolder takes the folder's lock, waiting up to patience for a process that is just leaving. The lock belongs to
// the open file: handed to the child and closed here, it lasts exactly as long as the child, even when this program
// was killed and the child was not.
func lockFolder(ctx context.Context, dir string, patience time.Duration) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the server's folder: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the folder's lock: %w", err)
	}
	deadline := time.Now().Add(patience)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case time.Now().After(deadline):
			by, _ := os.ReadFile(path)
			f.Close()
			return nil, &InUseError{Dir: dir, By: firstLine(string(by), "another process")}
		}
		if err := pauseFor(ctx, 20*time.Millisecond); err != nil {
			f.Close()
			return nil, fmt.Errorf("wait for the lock of %s: %w", dir, err)
		}
	}
}

// signLock writes into the lock file who holds it, for the message of whoever finds it taken.
func signLock(f *os.File, pid int) error {
	text := fmt.Sprintf("process %d, started by process %d (%s)\n", pid, os.Getpid(), filepath.Base(os.Args[0]))
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("sign the folder's lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("sign the folder's lock: %w", err)
	}
	return nil
}

// openLog opens the file that takes a server's output, starting a new one when it has grown past 8 MiB.
func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > 8<<20 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	return f, nil
}

func firstLine(text, otherwise string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if line == "" {
		return otherwise
	}
	return line
}

// pauseFor waits d or until ctx is done.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

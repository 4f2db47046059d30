package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"
)

// errPortTaken says that a server did not start because somebody has its port.
var errPortTaken = errors.New("its port is taken")

// launching is one attempt to start a process and to wait until it serves.
type launching struct {
	spec  processSpec
	log   string                                             // file that takes its output
	ready func(ctx context.Context, said func() []byte) bool // asked every few milliseconds; said returns its output so far
}

// launch starts a process and returns it when it is ready. If it ends before, or ctx does, the process is gone at
// return and the error ends with the last lines of its log. The folder's lock is signed with the process's number.
func launch(ctx context.Context, l launching) (*process, error) {
	log, err := openLog(l.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("find the end of the server's log: %w", err)
	}
	said := func() []byte { return readFrom(l.log, begin) }
	l.spec.output = log
	p, err := startProcess(l.spec)
	if err != nil {
		return nil, err
	}
	if err := signLock(l.spec.lock, p.pid()); err != nil {
		p.kill()
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if l.ready(ctx, said) {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, l.failure(fmt.Errorf("process %d ended before it was ready (%s)", p.pid(), p.cmd.ProcessState), said())
		case <-ctx.Done():
			p.kill()
			return nil, l.failure(fmt.Errorf("wait until it is ready: %w", ctx.Err()), said())
		case <-tick.C:
		}
	}
}

// failure adds what the process said.
func (l *launching) failure(cause error, said []byte) error {
	if bytes.Contains(said, []byte("ddress already in use")) {
		cause = fmt.Errorf("%w: %w", errPortTaken, cause)
	}
	if end := lastOf(said, 1500); end != "" {
		return fmt.Errorf("%w; its log %s ends: %s", cause, l.log, end)
	}
	return cause
}

// readFrom returns a file's content beyond an offset, nothing if it cannot be read.
func readFrom(path string, offset int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, offset, math.MaxInt64-offset))
	if err != nil {
		return nil
	}
	return text
}

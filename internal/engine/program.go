package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"
)

// ProgramOptions say how a program of ours is run; Path, Dir and Ready are required.
type ProgramOptions struct {
	// Name is what logs and errors call it; empty means the base of Path.
	Name string
	Path string
	Args []string
	// Dir is where it runs, and keeps its log; one process at a time.
	Dir string
	// Ready reports whether it serves. It is asked every few milliseconds.
	Ready        func(ctx context.Context) bool
	StartTimeout time.Duration // 0 means 90 s
	Grace        time.Duration // how long Stop waits before it kills; 0 means 20 s
	Logger       *slog.Logger  // nil means none
}

// Program is a program of ours as a child process, which does not outlive this one. Every method may be called from any
// goroutine. Pause, Kill, Restart and the others are those of every server here.
type Program struct {
	*server
	path atomic.Pointer[string]
}

// StartProgram starts a program and returns when it serves. The caller must Close it.
func StartProgram(ctx context.Context, opts ProgramOptions) (*Program, error) {
	if opts.Path == "" || opts.Dir == "" || opts.Ready == nil {
		return nil, errors.New("start a program: no path, folder or sign that it serves is given")
	}
	if opts.Name == "" {
		opts.Name = filepath.Base(opts.Path)
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = 90 * time.Second
	}
	if opts.Grace <= 0 {
		opts.Grace = 20 * time.Second
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", opts.Name, err)
	}
	p := &Program{server: newServer(opts.Name, opts.Logger, opts.Grace)}
	p.path.Store(&opts.Path)
	p.launch = func(ctx context.Context) (*process, error) {
		ctx, cancel := context.WithTimeout(ctx, opts.StartTimeout)
		defer cancel()
		lock, err := lockFolder(ctx, dir, 3*time.Second)
		if err != nil {
			return nil, err
		}
		defer lock.Close()
		return launch(ctx, launching{
			spec:  processSpec{path: *p.path.Load(), args: opts.Args, dir: dir, lock: lock},
			log:   filepath.Join(dir, "log"),
			ready: func(ctx context.Context, _ func() []byte) bool { return opts.Ready(ctx) },
		})
	}
	if err := p.start(ctx); err != nil {
		p.finish()
		return nil, err
	}
	return p, nil
}

// Replace ends the process in good order, if it runs, and starts the program of another path in its place, with the same arguments. It
// returns when that is ready.
func (p *Program) Replace(ctx context.Context, path string) error {
	p.path.Store(&path)
	return p.Restart(ctx)
}

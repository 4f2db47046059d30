package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"
)

// ErrClosed is returned by every operation on a server after Close.
var ErrClosed = errors.New("engine: closed")

// ErrNotRunning is returned by Pause and Resume when there is no process to signal.
var ErrNotRunning = errors.New("engine: not running")

// server is the life of one supervised process: what ClickHouse, Redis and Kafka have in common. Its methods may be
// called from any goroutine.
type server struct {
	name   string
	log    *slog.Logger
	grace  time.Duration                               // how long Stop waits before it kills
	launch func(ctx context.Context) (*process, error) // starts the process and waits until it is ready

	life   context.Context // ends with Close, so that Close also breaks off a launch
	finish context.CancelFunc

	turn sync.Mutex // held while a process is started or stopped

	mu      sync.Mutex // guards the fields below
	proc    *process   // the last process, perhaps gone; nil before the first
	wanted  bool       // a process that ends is to be replaced by Run
	changed chan struct{}
}

func newServer(name string, log *slog.Logger, grace time.Duration) *server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	life, finish := context.WithCancel(context.Background())
	return &server{
		name: name, log: log.With("engine", name), grace: grace,
		life: life, finish: finish, changed: make(chan struct{}),
	}
}

func (s *server) set(p *process, wanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc, s.wanted = p, wanted
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) get() (p *process, wanted bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc, s.wanted, s.changed
}

// start launches a process unless one runs.
func (s *server) start(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if p, _, _ := s.get(); p != nil && p.running() {
		return nil
	}
	return s.begin(ctx)
}

// begin launches a process. REQUIRES: turn is held and no process runs.
func (s *server) begin(ctx context.Context) error {
	if s.life.Err() != nil {
		return ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()

	begun := time.Now()
	p, err := s.launch(ctx)
	if err != nil {
		if s.life.Err() != nil {
			return ErrClosed
		}
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.set(p, true)
	s.log.Info("engine is up", "pid", p.pid(), "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// PID returns the number of the running process, 0 if there is none.
func (s *server) PID() int {
	if p, _, _ := s.get(); p != nil && p.running() {
		return p.pid()
	}
	return 0
}

// Kill ends the process as kill -9 does and returns when it is gone. Nothing happens if none runs.
func (s *server) Kill() {
	if p, _, _ := s.get(); p != nil {
		p.kill()
	}
}

// Pause freezes the process (SIGSTOP) and returns when it does nothing any more: its connections stay open and answer nothing.
func (s *server) Pause() error {
	if err := s.signalRunning(syscall.SIGSTOP); err != nil {
		return err
	}
	return awaitStopped(s.PID())
}

// Resume lets a paused process go on.
func (s *server) Resume() error { return s.signalRunning(syscall.SIGCONT) }

func (s *server) signalRunning(sig syscall.Signal) error {
	p, _, _ := s.get()
	if p == nil || !p.running() {
		return fmt.Errorf("%s: %w", s.name, ErrNotRunning)
	}
	return p.signal(sig)
}

// Stop ends the process in good order and returns when it is gone; Restart brings it back.
func (s *server) Stop() {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.end()
}

// end stops the process. REQUIRES: turn is held.
func (s *server) end() {
	p, _, _ := s.get()
	s.set(p, false)
	if p != nil {
		p.stop(s.grace)
	}
}

// Restart stops the process if it runs and starts it again on the same folder and, if they are still free, the same
// ports. It returns when the new process is ready.
func (s *server) Restart(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.end()
	return s.begin(ctx)
}

// Close stops the process for good and returns when it is gone. Calling it again does nothing.
func (s *server) Close() error {
	s.finish()
	s.Stop()
	return nil
}

// Run replaces the process whenever it ends without having been told to, with a growing pause between vain attempts,
// until ctx is done or the server is closed. It then closes the server and returns nil.
func (s *server) Run(ctx context.Context) error {
	defer s.Close()
	pause := firstPause
	for {
		p, wanted, changed := s.get()
		var gone <-chan struct{}
		if wanted {
			gone = p.done
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.life.Done():
			return nil
		case <-changed:
			continue
		case <-gone:
		}
		if _, wanted, _ := s.get(); !wanted {
			continue
		}
		s.log.Warn("engine ended, starting it again", "pid", p.pid(), "cause", p.err)
		if err := s.start(ctx); err == nil {
			pause = firstPause
			continue
		} else if ctx.Err() == nil && s.life.Err() == nil {
			s.log.Error("engine does not start", "error", err, "again_in", pause)
		}
		select {
		case <-ctx.Done():
		case <-s.life.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

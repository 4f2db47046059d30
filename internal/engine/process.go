package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// processSpec says how to start one child process.
type processSpec struct {
	path   string
	args   []string
	dir    string
	output io.Writer // stdout and stderr
	lock   *os.File  // passed on as descriptor 3, so that the lock lives exactly as long as the child

	as *syscall.Credential // the account it runs as; nil: that of this program

	// leavesAtEOF says that the child itself ends when its stdin closes. A child that cannot do so gets a guard.
	leavesAtEOF bool
}

// process is one running child that does not outlive this program: it leaves when its stdin closes, or a guard (a shell
// that reads from a pipe of ours) kills it when the pipe closes without a word. Both work on every Unix and after
// kill -9 of this program. On Linux the kernel is asked for the same, which also covers a child that was stopped.
//
// The child has a process group of its own: Ctrl-C in a terminal reaches this program alone, which then stops its
// children in order.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer     // nil if the child has a guard
	done  chan struct{} // closed when the child has been waited for and the guard dismissed
	err   error         // how the child ended; read after done
}

func startProcess(spec processSpec) (*process, error) {
	cmd := exec.Command(spec.path, spec.args...)
	cmd.Dir = spec.dir
	cmd.Stdout, cmd.Stderr = spec.output, spec.output
	cmd.SysProcAttr = childAttributes()
	cmd.SysProcAttr.Credential = spec.as
	cmd.WaitDelay = 2 * time.Second
	if spec.lock != nil {
		cmd.ExtraFiles = []*os.File{spec.lock}
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	if spec.leavesAtEOF {
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, fmt.Errorf("open stdin of %s: %w", spec.path, err)
		}
		p.stdin = in
	}

	started := make(chan error, 1)
	go p.live(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.path, err)
	}
	return p, nil
}

// live starts the child and stays with it to its end. It keeps its thread, because the kernel's parent-death signal
// fires when the thread that started the child ends.
func (p *process) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	var g *guard
	if p.stdin == nil {
		var err error
		if g, err = startGuard(p.pid()); err != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			started <- err
			return
		}
	}
	started <- nil
	p.err = p.cmd.Wait()
	if g != nil {
		g.dismiss()
	}
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig to the child; that the child is gone is no error.
func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid(), err)
	}
	return nil
}

// kill ends the child at once, also a stopped one, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks the child to leave, by the end of its stdin if it listens to that, else by SIGTERM; kills it after grace.
func (p *process) stop(grace time.Duration) {
	if p.stdin != nil {
		_ = p.stdin.Close()
	} else {
		_ = p.signal(syscall.SIGTERM)
	}
	_ = p.signal(syscall.SIGCONT)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
	}
}

// guard is a shell that kills one process when this program ends without dismissing it. As long as this program lives,
// it alone waits for the child, so the guard cannot hit a number that was given to another process.
type guard struct {
	cmd  *exec.Cmd
	word io.WriteCloser
}

func startGuard(pid int) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r word; [ "$word" = done ] || kill -9 "$1"`, "guard", strconv.Itoa(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	word, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("open stdin of the guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard of process %d: %w", pid, err)
	}
	return &guard{cmd: cmd, word: word}, nil
}

func (g *guard) dismiss() {
	_, _ = io.WriteString(g.word, "done\n")
	_ = g.word.Close()
	_ = g.cmd.Wait()
}

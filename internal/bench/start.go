package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// StartResult is what Start found: what a large store costs, and how soon it is there again. Rate and latencies are those
// of the appends that filled it.
type StartResult struct {
	Rate      float64 `json:"rate"`
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	Events    int64   `json:"events"`
	Size      int     `json:"size"`
	Clients   int     `json:"clients"`
	Streams   int     `json:"streams"`

	// WrittenPerEvent is what the process had the disk write for each event, in bytes, index and compactions included;
	// Written is that as a multiple of the payload.
	WrittenPerEvent float64 `json:"written_per_event"`
	Written         float64 `json:"written"`
	// The resident memory of the process at the end of the filling, the most it had on the way, and after a start, in MB.
	FilledMB  float64 `json:"filled_mb"`
	HighestMB float64 `json:"highest_mb"`
	StartedMB float64 `json:"started_mb"`
	// How long the store takes to open, in milliseconds, after kill -9 in the middle of appends and after a clean stop.
	KilledMillis float64 `json:"killed_ms"`
	CleanMillis  float64 `json:"clean_ms"`
	Cores        int     `json:"cores"`
}

// filledSide is what the process that fills says when it is done; openedSide what one that opens the store says.
type filledSide struct {
	Rate, P50, P99, Written, ResidentMB, HighestMB float64
	Events                                         int64
}

// appendingSide is what the process that fills says when each of its clients has appended again after that.
type appendingSide struct {
	Again int `json:"again"` // appends
}

type openedSide struct {
	Millis, ResidentMB float64
	Events             uint64
}

// Start fills a store in dir with a load's appends until it has so many events, kills that process while it goes on
// appending, and opens the store in new processes: after the kill, and after a clean stop. Command returns one that runs
// StartSide with the given arguments. It reads /proc and so needs Linux.
func Start(ctx context.Context, dir string, l Load, events int, command func(ctx context.Context, dir string, fill int) *exec.Cmd,
	progress func(done, total int),
) (r StartResult, err error) {
	dir = filepath.Join(dir, "store")
	r = StartResult{Size: l.Size, Clients: l.Clients, Streams: l.Streams, Cores: runtime.GOMAXPROCS(0)}
	var filled filledSide
	var again appendingSide
	err = runSide(command(ctx, dir, events), func(p *sideProcess) error {
		if err := p.lines(&filled, func(done int) { progress(done, events) }); err != nil {
			return err
		}
		if err := p.lines(&again, func(int) {}); err != nil {
			return err
		}
		return p.kill()
	})
	if err != nil {
		return r, fmt.Errorf("fill the store: %w", calledOff(ctx, err))
	}
	r.Rate, r.P50Micros, r.P99Micros, r.Events = filled.Rate, filled.P50, filled.P99, filled.Events
	r.WrittenPerEvent, r.FilledMB, r.HighestMB = filled.Written/float64(filled.Events), filled.ResidentMB, filled.HighestMB
	r.Written = r.WrittenPerEvent / float64(l.Size)
	for _, millis := range []*float64{&r.KilledMillis, &r.CleanMillis} {
		var opened openedSide
		err := runSide(command(ctx, dir, 0), func(p *sideProcess) error {
			if err := p.lines(&opened, func(int) {}); err != nil {
				return err
			}
			return p.stop()
		})
		if err != nil {
			return r, fmt.Errorf("open the store: %w", calledOff(ctx, err))
		}
		if opened.Events < uint64(filled.Events) {
			return r, fmt.Errorf("the store has %d events, %d were acknowledged", opened.Events, filled.Events)
		}
		*millis, r.StartedMB = opened.Millis, opened.ResidentMB
	}
	return r, nil
}

// calledOff returns what a process ended with, or that all of it was called off, which had the process killed.
func calledOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
	return err
}

// sideProcess is a process of StartSide.
type sideProcess struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Scanner
}

func runSide(cmd *exec.Cmd, with func(*sideProcess) error) error {
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start a process: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process: %w", err)
	}
	p := &sideProcess{cmd, in, bufio.NewScanner(out)}
	if err := with(p); err != nil {
		return errors.Join(err, p.kill())
	}
	return nil
}

// lines reads numbers, which are progress, until a line that is an answer.
func (p *sideProcess) lines(answer any, progress func(done int)) error {
	for p.out.Scan() {
		line := p.out.Bytes()
		var done int
		if json.Unmarshal(line, &done) == nil {
			progress(done)
			continue
		}
		if err := json.Unmarshal(line, answer); err != nil {
			return fmt.Errorf("a process answers %q: %w", line, err)
		}
		return nil
	}
	return fmt.Errorf("a process ended early: %w", errors.Join(p.out.Err(), p.cmd.Wait()))
}

// kill ends the process with SIGKILL, stop by closing its input.
func (p *sideProcess) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill a process: %w", err)
	}
	_ = p.cmd.Wait() // it was killed, and says so
	return nil
}

func (p *sideProcess) stop() error {
	if err := p.in.Close(); err != nil {
		return fmt.Errorf("stop a process: %w", err)
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("stop a process: %w", err)
	}
	return nil
}

// StartSide is a process of Start's. With fill it appends until the store in dir has so many events, says what that took,
// goes on appending, says that it does, and is killed; else it opens the store, says how long that took, and closes it when
// its input ends.
func StartSide(ctx context.Context, dir string, l Load, fill int, in io.Reader, out io.Writer) (err error) {
	begin := time.Now()
	store, err := pebblestore.Open(dir, nil)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	defer func() { err = errors.Join(err, store.Close()) }()
	say := func(v any) error {
		if err := json.NewEncoder(out).Encode(v); err != nil {
			return fmt.Errorf("say what was found: %w", err)
		}
		return nil
	}
	if fill > 0 {
		return fillSide(ctx, store, l, fill, say)
	}
	state, err := store.Log(ctx)
	if err != nil {
		return err
	}
	resident, _, err := residentMB()
	if err != nil {
		return err
	}
	if err := say(openedSide{float64(took.Microseconds()) / 1000, resident, state.Seq}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("wait for the end of the input: %w", err)
	}
	return nil
}

func fillSide(ctx context.Context, store *pebblestore.Store, l Load, fill int, say func(any) error) error {
	writers := l.writers([]appendsTo{appendsIn(store)})
	var appended atomic.Int64
	var mu sync.Mutex // guards said
	said := int64(0)
	l.Rounds, l.Duration = 1, 24*time.Hour
	l.enough = func() bool { return appended.Load() >= int64(fill) }
	side, err := l.run(ctx, func(client int) error {
		if err := writers[client].append(ctx); err != nil {
			return err
		}
		done := appended.Add(int64(l.Batch))
		mu.Lock()
		defer mu.Unlock()
		if done < said+int64(fill)/100 {
			return nil
		}
		said = done
		return say(done)
	})
	if err != nil {
		return err
	}
	answer := filledSide{Rate: side.Rate, P50: side.P50, P99: side.P99, Events: side.Events}
	if answer.Written, err = writtenBytes(); err != nil {
		return err
	}
	if answer.ResidentMB, answer.HighestMB, err = residentMB(); err != nil {
		return err
	}
	if err := say(answer); err != nil {
		return err
	}
	l.enough = nil
	var again atomic.Int64
	_, err = l.run(ctx, func(client int) error {
		if err := writers[client].append(ctx); err != nil {
			return err
		}
		if n := again.Add(1); n == int64(l.Clients) {
			return say(appendingSide{int(n)})
		}
		return nil
	})
	return err
}

// residentMB returns how much memory of this process is resident, and the most that was.
func residentMB() (now, highest float64, err error) {
	if now, err = procField("/proc/self/status", "VmRSS:"); err != nil {
		return 0, 0, err
	}
	highest, err = procField("/proc/self/status", "VmHWM:")
	return now / 1024, highest / 1024, err
}

// writtenBytes returns how many bytes this process has had the disk write.
func writtenBytes() (float64, error) { return procField("/proc/self/io", "write_bytes:") }

// procField returns the number behind a name in a file of /proc.
func procField(path, name string) (value float64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("look at this process: %w", err)
	}
	_, rest, found := bytes.Cut(b, []byte(name))
	if !found {
		return 0, fmt.Errorf("look at this process: %s has no %s", path, name)
	}
	if _, err := fmt.Sscan(string(rest), &value); err != nil {
		return 0, fmt.Errorf("look at this process: %s of %s: %w", name, path, err)
	}
	return value, nil
}

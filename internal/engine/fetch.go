package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Progress is one report of a running fetch.
type Progress struct {
	Package *Package
	Stage   string // "waiting", "fetching", "checking" or "unpacking"
	Done    int64  // bytes so far in this stage
	Total   int64  // bytes in all, about; 0 if not known
}

// FetchOptions are the choices of a fetch; the zero value reports nothing.
type FetchOptions struct {
	// Out gets one line before anything is fetched (version, size, hash) and one when it is done.
	Out io.Writer
	// Progress is called a few times a second from the goroutine that called Fetch or from one it waits for.
	Progress func(Progress)
}

// fetching is one fetch under way.
type fetching struct {
	pkg      *Package
	partial  string // kept when the fetch breaks off, so that the next one finds what had arrived
	result   string // what is renamed into place at the end
	progress func(Progress)
	held     *os.File // the cache's lock; nil if none is held
}

func (f *fetching) report(stage string, done, total int64) {
	f.progress(Progress{Package: f.pkg, Stage: stage, Done: done, Total: total})
}

// Fetch brings the engine into the cache folder unless it is there, and returns its status, which is Present unless
// err is not nil.
//
// The engine appears in the cache whole or not at all, and only after its hash was found right. Two processes that
// fetch the same engine at once take turns, and the second finds it there. A fetch that was killed leaves a partial
// folder, which the next one goes on from. An engine that cannot be fetched here gives a *MissingError.
func (p *Package) Fetch(ctx context.Context, cache string, opts FetchOptions) (Status, error) {
	if opts.Progress == nil {
		opts.Progress = func(Progress) {}
	}
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	status := p.Status(ctx, cache)
	if status.State != Missing {
		return status, status.Err()
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return status, fmt.Errorf("make the cache folder: %w", err)
	}
	f := &fetching{pkg: p, partial: p.folder(cache) + ".partial", progress: opts.Progress}
	f.result = filepath.Join(f.partial, "result")
	unlock, err := f.lock(ctx, p.folder(cache)+".lock")
	if err != nil {
		return status, err
	}
	defer unlock()
	if status = p.Status(ctx, cache); status.State == Present {
		return status, nil
	}

	fmt.Fprintf(opts.Out, "fetching %s: %s to fetch, %s on disk, sha256 %s, into %s\n",
		p.Title, megabytes(p.FetchSize), megabytes(p.DiskSize), p.SHA256(), cache)
	begun := time.Now()
	if err := f.run(ctx, p.folder(cache)); err != nil {
		return status, fmt.Errorf("fetch %s: %w", p.Title, err)
	}
	fmt.Fprintf(opts.Out, "fetched %s in %s\n", p.Title, time.Since(begun).Round(100*time.Millisecond))
	status = p.Status(ctx, cache)
	return status, status.Err()
}

func (f *fetching) run(ctx context.Context, target string) error {
	if err := os.RemoveAll(f.result); err != nil {
		return fmt.Errorf("clear an earlier attempt: %w", err)
	}
	if err := os.MkdirAll(f.result, 0o755); err != nil {
		return fmt.Errorf("make the partial folder: %w", err)
	}
	if err := f.pkg.fetch(ctx, f); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(f.result, filepath.FromSlash(f.pkg.entry))); err != nil {
		return fmt.Errorf("what arrived does not hold the engine: %w", err)
	}
	// What stands there without its entry is a folder somebody damaged.
	if err := os.RemoveAll(target); err != nil {
		return fmt.Errorf("clear %s: %w", target, err)
	}
	if err := os.Rename(f.result, target); err != nil {
		return fmt.Errorf("put the engine into place: %w", err)
	}
	if err := os.RemoveAll(f.partial); err != nil {
		return fmt.Errorf("clear the partial folder: %w", err)
	}
	return nil
}

// lock makes fetches of one engine into one cache take turns across processes.
func (f *fetching) lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache's lock: %w", err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			f.held = file
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock the cache: %w", err)
		}
		f.report("waiting", 0, 0)
		if err := pauseFor(ctx, 100*time.Millisecond); err != nil {
			file.Close()
			return nil, fmt.Errorf("wait for another fetch of %s: %w", f.pkg.Title, err)
		}
	}
}

// tool runs one program of a package manager to its end, reporting meanwhile how much has arrived below watched. Should
// this program be killed, Linux ends the tool too; elsewhere the tool goes on holding the cache's lock until it is done.
func (f *fetching) tool(ctx context.Context, watched string, env []string, name string, args ...string) error {
	watching, stop := context.WithCancel(ctx)
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		for pauseFor(watching, 200*time.Millisecond) == nil {
			f.report("fetching", min(bytesBelow(watched), f.pkg.FetchSize), f.pkg.FetchSize)
		}
	}()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = f.partial
	runtime.LockOSThread() // see process.live
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = childAttributes()
	if f.held != nil {
		cmd.ExtraFiles = []*os.File{f.held}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	stop()
	<-watcher
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(name), ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", filepath.Base(name), err, lastOf(out, 1500))
	}
	return nil
}

func lastOf(out []byte, most int) string {
	out = bytes.TrimSpace(out)
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return string(out)
}

// bytesBelow sums the sizes of the files below dir. Files come and go meanwhile: what cannot be seen counts nothing.
func bytesBelow(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// hashOf returns the SHA-256 of a file in hex.
func hashOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open what was fetched: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read what was fetched: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checkHash compares a file with its pinned hash and removes it if it differs, so that the next attempt starts anew.
func checkHash(path, want string) error {
	got, err := hashOf(path)
	if err != nil {
		return err
	}
	if !strings.EqualFold(got, want) {
		os.Remove(path)
		return fmt.Errorf("%s has sha256 %s, pinned is %s: not used", filepath.Base(path), got, want)
	}
	return nil
}

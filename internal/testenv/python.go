package testenv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/internal/engine"
)

// Python returns a folder with the packages that a requirements.txt pins, for PYTHONPATH. They are fetched at first use
// and kept in the user's cache, under the hash of the requirements and of the Python that they are for.
func Python(t testing.TB, requirements string) (folder string) {
	t.Helper()
	const hint = "install Python 3.9 or newer as python3, with pip, and let pip reach a package index"
	version, err := exec.Command("python3", "-c", "import sys, platform; print(sys.version_info[:2], platform.platform())").Output()
	if err != nil {
		Missing(t, "python3", hint)
	}
	pinned, err := os.ReadFile(requirements)
	if err != nil {
		t.Fatalf("testenv: read requirements: %v", err)
	}
	cache, err := engine.CacheDir()
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	folder = filepath.Join(cache, fmt.Sprintf("python-%x", sha256.Sum256(append(version, pinned...)))[:len("python-")+16])
	if isThere(folder) {
		return folder
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := fetchPython(ctx, requirements, folder); err != nil {
		Missing(t, "packages of "+requirements, fmt.Sprintf("%s (%v)", hint, err))
	}
	return folder
}

// fetchPython has pip fill the folder, which appears whole or not at all. Of two that do it at the same time one is in
// vain.
func fetchPython(ctx context.Context, requirements, folder string) (err error) {
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(folder), filepath.Base(folder)+".partial-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(partial)) }()
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
		"--root-user-action=ignore", "--only-binary=:all:", "--target", partial, "-r", requirements)
	if out, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("pip: %w\n%s", err, out)
	}
	if err := os.Rename(partial, folder); err != nil && !isThere(folder) {
		return err
	}
	return nil
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

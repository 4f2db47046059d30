package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// folder is where the shared servers of this test binary live. It is made when the first of them starts.
type folder struct {
	mu   sync.Mutex // guards the fields below
	live bool       // between Main's begin and end
	dir  string     // "" until it is needed
}

// folderPrefix begins the folders' names; the number of the process that made it follows.
const folderPrefix = "tributary-test-"

// open begins the time in which servers can be shared, and clears away what killed test binaries left.
func (f *folder) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = true
	return sweep(os.TempDir())
}

// get returns the folder.
func (f *folder) get() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.live {
		return "", errors.New("shared servers need `func TestMain(m *testing.M) { testenv.Main(m) }` in this package")
	}
	if f.dir == "" {
		dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", folderPrefix, os.Getpid()))
		if err != nil {
			return "", fmt.Errorf("make a folder for shared servers: %w", err)
		}
		f.dir = dir
	}
	return f.dir, nil
}

func (f *folder) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = false
	if f.dir == "" {
		return nil
	}
	if err := os.RemoveAll(f.dir); err != nil {
		return fmt.Errorf("remove the folder of shared servers: %w", err)
	}
	f.dir = ""
	return nil
}

// sweep removes the folders below dir whose processes are gone.
func sweep(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, folderPrefix+"*-*"))
	if err != nil {
		return fmt.Errorf("look for folders left behind: %w", err)
	}
	for _, left := range found {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(left), folderPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if err := os.RemoveAll(left); err != nil {
			return fmt.Errorf("remove what a killed test left: %w", err)
		}
	}
	return nil
}

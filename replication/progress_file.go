package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/tributary-es/tributary/internal/wholefile"
)

// ProgressFile is a SyncProgress in a file: a JSON object of Unix nanoseconds by the syncers' names. It is replaced as a whole, so that a
// program that is killed, or a machine that loses its power, leaves what was saved last or what was before. One program uses it at a time.
type ProgressFile struct {
	path string
	mu   sync.Mutex // guards the file
}

// NewProgressFile returns the progress that is kept in a file, which is made by the first Save; its folder has to be there.
func NewProgressFile(path string) *ProgressFile { return &ProgressFile{path: path} }

func (f *ProgressFile) read() (at map[string]int64, err error) {
	body, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int64{}, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &at)
	}
	if err == nil && at == nil {
		err = errors.New("no JSON object")
	}
	if err != nil {
		return nil, fmt.Errorf("progress of syncers in %s, which can be removed to begin anew: %w", f.path, err)
	}
	return at, nil
}

// Load implements SyncProgress.
func (f *ProgressFile) Load(name string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.read()
	return at[name], err
}

// Save implements SyncProgress: it is on the disk when it returns.
func (f *ProgressFile) Save(name string, fromTS int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.read()
	if err != nil {
		return err
	}
	at[name] = fromTS
	body, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("encode progress of syncers: %w", err)
	}
	return wholefile.Write(f.path, append(body, '\n'))
}

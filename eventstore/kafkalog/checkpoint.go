package kafkalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tributary-es/tributary/eventstore"
)

// Checkpoint keeps how far a mirror has come. It is a cache: the topic's tail is what counts, and a Mark that is stale or
// gone costs at most that events are published again. It is used by one mirror.
type Checkpoint interface {
	// Load returns the last mark that was saved, the zero Mark when there is none.
	Load() (Mark, error)
	Save(Mark) error
}

// Mark is a place both in the log and in the topic.
type Mark struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	// Mirrored is the last event in the topic, At its position, Chain the log's hash chain after it.
	Mirrored eventstore.Dot      `json:"mirrored"`
	At       eventstore.Position `json:"at"`
	Chain    eventstore.Hash     `json:"chain"`
	// Own is, in a feed, what its records say of the site's own log, see Event.
	Own eventstore.Dot `json:"own,omitzero"`
	// Offset is the one after the last record that was acknowledged.
	Offset int64 `json:"offset"`
}

// FileCheckpoint returns a Checkpoint in a file, replaced as a whole at each Save.
func FileCheckpoint(path string) Checkpoint { return fileCheckpoint(path) }

type fileCheckpoint string

// Load implements Checkpoint. A file that does not make sense counts as none.
func (f fileCheckpoint) Load() (Mark, error) {
	var m Mark
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read mirror checkpoint: %w", err)
	}
	if json.Unmarshal(b, &m) != nil {
		return Mark{}, nil
	}
	return m, nil
}

// Save implements Checkpoint.
func (f fileCheckpoint) Save(m Mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode mirror checkpoint: %w", err)
	}
	temporary := string(f) + ".new"
	if err := os.MkdirAll(filepath.Dir(temporary), 0o755); err != nil {
		return fmt.Errorf("make mirror checkpoint's folder: %w", err)
	}
	if err := os.WriteFile(temporary, b, 0o644); err != nil {
		return fmt.Errorf("write mirror checkpoint: %w", err)
	}
	if err := os.Rename(temporary, string(f)); err != nil {
		return fmt.Errorf("replace mirror checkpoint: %w", err)
	}
	return nil
}

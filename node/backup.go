package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// BackupReport says what a backup holds.
type BackupReport struct {
	Folder    string     `json:"folder"`
	Log       string     `json:"log"`
	Position  string     `json:"position"`
	Events    uint64     `json:"events"`
	Streams   uint64     `json:"streams"`
	Chain     string     `json:"chain"`
	LastEvent *time.Time `json:"last_event,omitempty"`
	MadeAt    time.Time  `json:"made_at"`
	Bytes     int64      `json:"bytes"`
	// ReadOnly is why the store took no commands: the backup may lack what the log had lost.
	ReadOnly string `json:"read_only,omitempty"`
}

func backupReport(folder string, b pebblestore.Backup) BackupReport {
	r := BackupReport{
		Folder: folder, Log: b.Log.String(), Position: b.Position.String(), Events: b.Position.LSN, Streams: b.Streams,
		Chain: hex.EncodeToString(b.Chain[:]), MadeAt: b.MadeAt, Bytes: b.Bytes, ReadOnly: b.ReadOnly,
	}
	if b.Position.LSN > 0 {
		r.LastEvent = &b.LastEvent
	}
	return r
}

// BackUp copies the node's log into a folder that is new or empty, while it goes on, see pebblestore.Store.Backup.
func (n *Node) BackUp(ctx context.Context, to string, progress func(done, total uint64)) (BackupReport, error) {
	if !filepath.IsAbs(to) {
		return BackupReport{}, fmt.Errorf("%w: folder %q of the backup is not an absolute path on the server's machine", eventstore.ErrInvalid, to)
	}
	if err := outside(to, n.config.Data, n.config.Keys); err != nil {
		return BackupReport{}, fmt.Errorf("back up to %s: %w", to, err)
	}
	b, err := n.local.Backup(ctx, to, progress)
	if err != nil {
		return BackupReport{}, placeError(err)
	}
	n.log.Info("the log is backed up", "folder", to, "position", b.Position.String(), "bytes", b.Bytes)
	return backupReport(to, b), nil
}

// BackUpFolder backs up a data folder that no server runs on. It opens its store and nothing else.
func BackUpFolder(ctx context.Context, data, to string, log *slog.Logger, progress func(done, total uint64)) (r BackupReport, err error) {
	last, err := lastConfig(data)
	if err != nil {
		return r, err
	}
	if err := outside(to, data, last.Keys); err != nil {
		return r, fmt.Errorf("back up to %s: %w", to, err)
	}
	s, err := pebblestore.Open(filepath.Join(data, storeFolder), &pebblestore.Options{Site: last.Site, Logger: log, OpenArchive: openBucket})
	if err != nil {
		return r, err
	}
	defer func() {
		if closed := s.Close(); err == nil {
			err = closed
		}
	}()
	b, err := s.Backup(ctx, to, progress)
	if err != nil {
		return r, placeError(err)
	}
	return backupReport(to, b), nil
}

// storeFolder is where a data folder has its store.
const storeFolder = "store"

// refuseBackup refuses a backup in place of a data folder: a server would begin a new log in it.
func refuseBackup(data string) error {
	if !pebblestore.IsBackup(nil, data) {
		return nil
	}
	return fmt.Errorf("%w: %s is a backup; restore it into a data folder: tributary restore --from %s --data DIR", eventstore.ErrInvalid, data, data)
}

// makeDataFolder makes a data folder as a node does.
func makeDataFolder(data string) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	return nil
}

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// keyPart holds the keys of subjects, the store that seals with them, and how far the log is known to have erasures.
type keyPart struct {
	file *keyfile.File
	// last is the position of the last erasure on record.
	last eventstore.Position

	numbers sync.Mutex // guards what follows
	// highest is the highest number of a key that the log has up to read.
	highest uint32
	read    eventstore.Position
}

// keyOptions says where the master key is.
func (c *Config) keyOptions() keyfile.Options {
	return keyfile.Options{Master: c.MasterKey, MasterFile: c.MasterKeyFile}
}

// openKeys opens the keys, or makes the first ones of a log. Keys that are not those which the log names are refused.
func openKeys(ctx context.Context, n *Node) (*keyPart, error) {
	dir := n.config.keysDir()
	used, err := sealed.KeysOf(ctx, n.store)
	if err != nil {
		return nil, err
	}
	if used != "" && !keyfile.Exists(dir) {
		return nil, fmt.Errorf("%w: the log's personal data are sealed with key file %s, and there is none in %s; name its folder (--keys), or bring its master.key back to %s and then the keys: tributary keys restore FILE",
			eventstore.ErrUnavailable, used, dir, dir)
	}
	file, err := keyfile.Open(dir, n.config.keyOptions())
	if err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	k := &keyPart{file: file}
	if id := file.ID().String(); used != "" && used != id {
		return k, fmt.Errorf("%w: the log's personal data are sealed with key file %s, and the one in %s is %s; name the right folder (--keys)",
			eventstore.ErrUnavailable, used, dir, id)
	}
	return k, nil
}

// seal puts the keys before the store, and destroys again what is to be erased before anything is read.
func (k *keyPart) seal(ctx context.Context, store eventstore.Store, log *slog.Logger) (*sealed.Store, error) {
	s := sealed.New(store, k.file, k.file.ID().String())
	if err := k.reserve(ctx, store, log); err != nil {
		return nil, err
	}
	destroyed, last, err := s.Resume(ctx)
	if err != nil {
		return nil, fmt.Errorf("finish erasures: %w", err)
	}
	if destroyed > 0 {
		log.Info("keys of erased subjects were there, and are destroyed", slog.Int("keys", destroyed))
	}
	k.last = last
	return s, nil
}

// followErasures destroys the keys of those whom another site erases, when it is heard of, until ctx ends.
func (n *Node) followErasures(ctx context.Context) error {
	others, err := n.hasOthers()
	if err != nil || !others {
		return err
	}
	return n.sealed.Follow(ctx, func(of sealed.Subject, at eventstore.Position) {
		n.bus.Forget()
		n.erased(at)
		n.log.Info("a subject was erased at another site; its key here is destroyed", slog.String("subject", of.String()))
	})
}

// reserve keeps the numbers that the log has from being given again, once after the keys were restored.
func (k *keyPart) reserve(ctx context.Context, store eventstore.Store, log *slog.Logger) error {
	if !k.file.Restored() {
		return nil
	}
	log.Info("keys were restored: the log is read for the numbers of keys that were given since their backup")
	highest, err := k.given(ctx, store)
	if err != nil {
		return err
	}
	return k.file.Reserve(highest)
}

// given returns the highest number of a key that the log has. The first call reads all of the log, a later one what has come
// since, and one after a call that was cut short goes on where that was.
func (k *keyPart) given(ctx context.Context, log eventstore.Reader) (uint32, error) {
	k.numbers.Lock()
	defer k.numbers.Unlock()
	highest, to, err := sealed.HighestKey(ctx, log, k.read)
	k.highest, k.read = max(k.highest, highest), to
	return k.highest, err
}

// knowsAll reports whether a subject that the keys do not know has never had one. Where a key is missing or damaged nobody can
// tell; the log is read only where the keys themselves give no reason to doubt.
func (k *keyPart) knowsAll(ctx context.Context, log eventstore.Reader) (bool, error) {
	if !k.file.KnowsAll(0) {
		return false, nil
	}
	highest, err := k.given(ctx, log)
	if err != nil {
		return false, fmt.Errorf("look whether the key file has every key that the log names: %w", err)
	}
	return k.file.KnowsAll(highest), nil
}

func (k *keyPart) close() error {
	if k == nil {
		return nil
	}
	return k.file.Close()
}

// BackupKeys writes a backup of a folder's keys to a new file; a server may be running on it.
func BackupKeys(c Config, path string) (report keyfile.Report, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return report, fmt.Errorf("%w: %s is there already", eventstore.ErrInvalid, path)
	}
	if err != nil {
		return report, fmt.Errorf("back up keys: %w", err)
	}
	report, err = keyfile.Backup(c.keysDir(), c.keyOptions(), f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return report, errors.Join(err, os.Remove(path))
	}
	return report, nil
}

// RestoreKeys brings back keys of a stopped folder that are missing or damaged.
func RestoreKeys(c Config, from io.Reader) (keyfile.Report, error) {
	return keyfile.Restore(c.keysDir(), c.keyOptions(), from, time.Now())
}

// keysDir returns the folder of the keys: the one that is named, or that the data folder was last used with.
func (c *Config) keysDir() string {
	named := c.Keys
	if last, err := lastConfig(c.Data); err == nil && named == "" {
		named = last.Keys
	}
	return cmp.Or(named, filepath.Join(c.Data, "keys"))
}

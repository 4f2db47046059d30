package pebblestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// A backup is a folder of plain files: the log's blocks in order, and a manifest that is written last.
//
//	log-00000000000000000001.blocks   blocks from that lsn on, each as its length (4 bytes, big-endian) and its bytes
//	manifest.json                     what the backup holds, with size and SHA-256 of each file
//	restored.json                     the incarnations that restores of it have begun
//	UNFINISHED                        while the backup is being written
//	LOCK                              empty; held by the one that writes, and by a restore that takes its incarnation
const (
	manifestName   = "manifest.json"
	restoredName   = "restored.json"
	unfinishedName = "UNFINISHED"
	segmentPattern = "log-%020d.blocks"
)

// manifestFormat is the version of a backup. The log's own formats are in its meta and its blocks.
const manifestFormat = 1

// ErrBackup: the folder is a backup and no store, or no backup although one was asked for. It matches eventstore.ErrInvalid.
var ErrBackup = fmt.Errorf("%w: not a folder of that kind", eventstore.ErrInvalid)

// Backup says what a backup holds.
type Backup struct {
	Log eventstore.LogID
	// Position is that of the last event, Seq and Chain are the log's there.
	Position eventstore.Position
	Seq      uint64
	Chain    eventstore.Hash
	Streams  uint64
	// LastEvent is when the last event happened, MadeAt when the backup was finished.
	LastEvent, MadeAt time.Time
	// Bytes is the size of all its files but the manifest.
	Bytes int64
	// ReadOnly is why the store took no writes when it was backed up; empty when it did. The backup may then lack what
	// the log had lost.
	ReadOnly string
}

// manifest is what a backup says of itself, as JSON, so that whoever finds a folder can read it.
type manifest struct {
	Format   int       `json:"backup_format"`
	Log      meta      `json:"log"`
	LSN      uint64    `json:"lsn"`
	Seq      uint64    `json:"seq"`
	Chain    hexHash   `json:"chain"`
	Streams  uint64    `json:"streams"`
	LastTime time.Time `json:"last_event"`
	MadeAt   time.Time `json:"made_at"`
	ReadOnly string    `json:"read_only,omitempty"`
	Files    []segment `json:"files"`
	// Checksum is the SHA-256 of the manifest with this field empty.
	Checksum string `json:"checksum"`
}

// segment is a file of blocks.
type segment struct {
	Name   string `json:"name"`
	First  uint64 `json:"first_lsn"`
	Last   uint64 `json:"last_lsn"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func (m *manifest) backup() Backup {
	b := Backup{
		Log: m.Log.logID(), Position: eventstore.Position{Incarnation: m.Log.Incarnation, LSN: m.LSN}, Seq: m.Seq,
		Chain: eventstore.Hash(m.Chain), Streams: m.Streams, LastEvent: m.LastTime, MadeAt: m.MadeAt, ReadOnly: m.ReadOnly,
	}
	for _, f := range m.Files {
		b.Bytes += f.Bytes
	}
	return b
}

// encode returns the manifest's file, with its checksum.
func (m manifest) encode() ([]byte, error) {
	m.Checksum = ""
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	m.Checksum = fmt.Sprintf("%x", sha256.Sum256(body))
	if body, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(body, '\n'), nil
}

// ReadBackup returns what a backup says that it holds; Restore checks whether that is so. Nil files are those of the
// operating system. Errors: ErrBackup when the folder is no backup or an unfinished one, ErrNewerFormat,
// eventstore.ErrCorrupt.
func ReadBackup(files vfs.FS, dir string) (Backup, error) {
	if files == nil {
		files = vfs.Default
	}
	m, err := readManifest(files, dir)
	if err != nil {
		return Backup{}, fmt.Errorf("read backup in %s: %w", dir, err)
	}
	return m.backup(), nil
}

// IsBackup reports whether a folder is a backup, finished or not. Nil files are those of the operating system.
func IsBackup(files vfs.FS, dir string) bool {
	if files == nil {
		files = vfs.Default
	}
	return exists(files, files.PathJoin(dir, manifestName)) || exists(files, files.PathJoin(dir, unfinishedName))
}

func readManifest(files vfs.FS, dir string) (*manifest, error) {
	if exists(files, files.PathJoin(dir, unfinishedName)) {
		return nil, fmt.Errorf("%w: it holds a backup that was not finished", ErrBackup)
	}
	body, err := readFile(files, files.PathJoin(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it is no backup, there is no %s", ErrBackup, manifestName)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", eventstore.ErrCorrupt, manifestName, err)
	}
	if m.Format > manifestFormat || m.Log.Format > dataFormat {
		return nil, fmt.Errorf("%w: backup of format %d, log of format %d; this program knows %d and %d: use a newer tributary",
			ErrNewerFormat, m.Format, m.Log.Format, manifestFormat, dataFormat)
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(body, again) {
		return nil, fmt.Errorf("%w: %s does not fit its checksum", eventstore.ErrCorrupt, manifestName)
	}
	h := m.Log.history()
	return &m, h.check()
}

// begun returns the incarnations that restores of a backup have begun.
func begun(files vfs.FS, dir string) (all []uint32, err error) {
	body, err := readFile(files, files.PathJoin(dir, restoredName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", files.PathJoin(dir, restoredName), err)
	}
	return all, nil
}

// errBegun: another restore has begun the incarnation.
var errBegun = errors.New("a restore has begun it already")

// noteBegun notes, in a backup, that a restore of it begins an incarnation. Errors: errBegun.
func noteBegun(files vfs.FS, dir string, incarnation uint32) error {
	all, err := begun(files, dir)
	if err != nil {
		return err
	}
	if slices.Contains(all, incarnation) {
		return errBegun
	}
	body, err := json.Marshal(append(all, incarnation))
	if err != nil {
		return fmt.Errorf("encode %s: %w", restoredName, err)
	}
	return replaceFile(files, files.PathJoin(dir, restoredName), append(body, '\n'))
}

func readFile(files vfs.FS, path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(f)
	return body, errors.Join(err, f.Close())
}

// replaceFile writes a file as a whole, durable when it returns.
func replaceFile(files vfs.FS, path string, body []byte) error {
	fresh := path + ".new"
	f, err := files.Create(fresh, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = files.Rename(fresh, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, removeIfThere(files, fresh)))
	}
	return syncFolder(files, files.PathDir(path))
}

package pebblestore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// segmentBytes is the size at which a backup goes on in another file.
const segmentBytes = 256 << 20

// Backup copies the log, up to what is durable when it begins, into a folder that is new or empty, and returns when the
// copy is durable there. It holds no writer up. Each block is checked on its way as Verify checks it, so that a backup
// that was made is one that can be restored. The index is not part of it: a restore makes it anew.
//
// It calls progress, when not nil, now and then with events. When it fails, for want of space say, it removes what it
// wrote. A folder in which it was killed is marked, is no backup, and is used again by the next
// try.
//
// Errors: eventstore.ErrInvalid when the folder holds something else, ErrLocked when another backup is being written into
// it, eventstore.ErrCorrupt when the log is damaged.
func (s *Store) Backup(ctx context.Context, dir string, progress func(done, total uint64)) (Backup, error) {
	b := backup{store: s, files: s.opts.fs(), dir: filepath.Clean(dir)} // the lock knows a folder by one name
	m, err := b.run(ctx, progress)
	if err != nil {
		return Backup{}, fmt.Errorf("back up to %s: %w", dir, err)
	}
	return m.backup(), nil
}

// backup is a backup under way.
type backup struct {
	store *Store
	files vfs.FS
	dir   string

	manifest manifest
	check    *logCheck
	file     vfs.File
	out      *bufio.Writer // to file
	sum      hash.Hash
}

func (b *backup) run(ctx context.Context, progress func(done, total uint64)) (_ *manifest, err error) {
	// Nothing is locked, and so made, in a folder that is somebody else's.
	if err := b.look(); err != nil {
		return nil, err
	}
	if err := makeFolder(b.files, b.dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(b.files, b.dir)
	if errors.Is(err, ErrLocked) {
		err = fmt.Errorf("%w: another backup is being written into it, name another folder: %w", eventstore.ErrInvalid, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(b.files, b.files.PathJoin(b.dir, lockName)))
		}
		err = errors.Join(err, lock.Close())
	}()
	if !exists(b.files, b.files.PathJoin(b.dir, lockName)) { // one that failed has removed it meanwhile
		return nil, fmt.Errorf("%w: another backup has just failed there, try again", ErrLocked)
	}
	// Another backup may have been finished meanwhile. A marker that is there now is that of one that was killed.
	if err := b.look(); err != nil {
		return nil, err
	}
	err = b.mark()
	if err == nil {
		err = b.copy(ctx, progress)
	}
	if err == nil {
		err = b.finish()
	}
	if err != nil {
		return nil, errors.Join(err, b.clear())
	}
	return &b.manifest, nil
}

// look refuses a folder that holds something else than what an earlier try left.
func (b *backup) look() error {
	names, err := b.files.List(b.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the folder: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == lockName })
	if len(names) > 0 && !exists(b.files, b.files.PathJoin(b.dir, unfinishedName)) {
		return fmt.Errorf("%w: the folder is not empty, it holds %s; name one that is new or empty", eventstore.ErrInvalid, names[0])
	}
	return nil
}

// mark says that the folder is no backup yet, and removes what an earlier try left.
func (b *backup) mark() error {
	if err := markFolder(b.files, b.dir, unfinishedName); err != nil {
		return err
	}
	return b.removeFiles()
}

// removeFiles removes what a backup writes, the marker apart.
func (b *backup) removeFiles() error {
	names, err := b.files.List(b.dir)
	if err != nil {
		return fmt.Errorf("look into the folder: %w", err)
	}
	for _, name := range names {
		segment, _ := path.Match("log-*.blocks", name)
		if segment || name == manifestName || name == manifestName+".new" {
			if err := b.files.Remove(b.files.PathJoin(b.dir, name)); err != nil {
				return fmt.Errorf("remove an unfinished backup: %w", err)
			}
		}
	}
	return nil
}

// clear removes all that was written but the lock.
func (b *backup) clear() error {
	if b.file != nil {
		_ = b.file.Close() // it is removed
	}
	if err := b.removeFiles(); err != nil {
		return err
	}
	if err := removeIfThere(b.files, b.files.PathJoin(b.dir, unfinishedName)); err != nil {
		return fmt.Errorf("remove an unfinished backup: %w", err)
	}
	return syncFolder(b.files, b.dir)
}

// copy writes the blocks. What it reads is durable: blocks end where groups do, and the state is that of a group.
func (b *backup) copy(ctx context.Context, progress func(done, total uint64)) error {
	s := b.store
	if err := s.failed(); err != nil {
		b.manifest.ReadOnly = err.Error()
	}
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	state := s.recent.state()
	release()
	m := &b.manifest
	m.Format, m.Log = manifestFormat, s.plainMeta()
	m.LSN, m.Seq, m.Chain, m.Streams = state.lsn, state.seq, hexHash(state.chain), state.streams
	b.check = newLogCheck(&s.history, s.noted.Load())
	for next := uint64(1); next <= state.lsn; {
		if next, err = b.step(ctx, next, state.lsn); err != nil {
			return err
		}
		if progress != nil {
			progress(next-1, state.lsn)
		}
	}
	if b.check.seq != state.seq || b.check.chain != state.chain {
		return fmt.Errorf("%w: the log was read up to seq %d with chain %x, its head is %d with %x",
			eventstore.ErrCorrupt, b.check.seq, b.check.chain[:8], state.seq, state.chain[:8])
	}
	m.Log = s.plainMeta() // contents may have been dropped meanwhile
	return b.endSegment()
}

// step copies some blocks from an lsn on and returns the lsn to go on from.
func (b *backup) step(ctx context.Context, next, end uint64) (uint64, error) {
	release, err := b.store.useFor(ctx)
	if err != nil {
		return next, err
	}
	defer release()
	r, err := b.store.blockReader()
	if err != nil {
		return next, err
	}
	defer r.close()
	found, err := r.from(next)
	if err != nil {
		return next, err
	}
	for range verifyBlocks {
		if !found || r.cur.first != next || r.cur.last() > end {
			return next, fmt.Errorf("log at lsn %d: %w: no block begins there that ends at or before %d", next, eventstore.ErrCorrupt, end)
		}
		if err := b.block(&r.cur, r.raw); err != nil {
			return next, err
		}
		if next = r.cur.last() + 1; next > end {
			return next, nil
		}
		if found, err = r.next(); err != nil {
			return next, err
		}
	}
	return next, nil
}

// block checks a block and writes it.
func (b *backup) block(cur *block, raw []byte) error {
	last, err := b.check.block(cur, b.store.id.Incarnation)
	if err != nil {
		return err
	}
	b.manifest.LastTime = last.Time()
	if n := len(b.manifest.Files); b.file == nil || b.manifest.Files[n-1].Bytes >= segmentBytes {
		if err := b.beginSegment(cur.first); err != nil {
			return err
		}
	}
	if err := b.write(binary.BigEndian.AppendUint32(nil, uint32(len(raw)))); err != nil {
		return err
	}
	b.manifest.Files[len(b.manifest.Files)-1].Last = cur.last()
	return b.write(raw)
}

func (b *backup) write(p []byte) error {
	if _, err := b.out.Write(p); err != nil {
		return fmt.Errorf("write %s: %w", b.manifest.Files[len(b.manifest.Files)-1].Name, err)
	}
	b.sum.Write(p)
	b.manifest.Files[len(b.manifest.Files)-1].Bytes += int64(len(p))
	return nil
}

func (b *backup) beginSegment(first uint64) error {
	if err := b.endSegment(); err != nil {
		return err
	}
	name := fmt.Sprintf(segmentPattern, first)
	f, err := b.files.Create(b.files.PathJoin(b.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	// Written back while it grows, so that the last sync does not take the disk from the log.
	b.file = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: 1 << 20})
	b.out = bufio.NewWriterSize(b.file, 256<<10)
	b.sum = sha256.New()
	b.manifest.Files = append(b.manifest.Files, segment{Name: name, First: first})
	return nil
}

// endSegment makes the file at hand durable.
func (b *backup) endSegment() error {
	if b.file == nil {
		return nil
	}
	s := &b.manifest.Files[len(b.manifest.Files)-1]
	s.SHA256 = fmt.Sprintf("%x", b.sum.Sum(nil))
	err := b.out.Flush()
	if err == nil {
		err = b.file.Sync()
	}
	err = errors.Join(err, b.file.Close())
	b.file = nil
	if err != nil {
		return fmt.Errorf("write %s: %w", s.Name, err)
	}
	return nil
}

// finish makes a backup of what was written.
func (b *backup) finish() error {
	if err := syncFolder(b.files, b.dir); err != nil {
		return err
	}
	b.manifest.MadeAt = time.Now().UTC()
	body, err := b.manifest.encode()
	if err != nil {
		return err
	}
	if err := replaceFile(b.files, b.files.PathJoin(b.dir, manifestName), body); err != nil {
		return err
	}
	if err := b.files.Remove(b.files.PathJoin(b.dir, unfinishedName)); err != nil {
		return fmt.Errorf("finish backup: %w", err)
	}
	return syncFolder(b.files, b.dir)
}

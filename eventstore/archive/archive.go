package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Options of an Archive. Nil and the zero value are good.
type Options struct {
	// CacheBytes is the memory for what was read; zero means 16 MiB.
	CacheBytes int64
	// Patience is how long one read of the bucket may take, and one write besides a second for each MiB; zero means 15 s.
	Patience time.Duration
}

// Archive reads segments at one place. It is safe for concurrent use.
type Archive struct {
	location string
	bucket   Bucket
	patience time.Duration
	chunks   *chunks
	alive    context.Context
	end      context.CancelFunc
	faults   faults
}

// New returns the archive at a location, in the bucket that was opened there.
func New(location string, b Bucket, o *Options) *Archive {
	if o == nil {
		o = &Options{}
	}
	a := &Archive{location: location, bucket: b, patience: 15 * time.Second}
	if o.Patience > 0 {
		a.patience = o.Patience
	}
	limit := o.CacheBytes
	if limit <= 0 {
		limit = 16 << 20
	}
	a.chunks = newChunks(limit)
	a.alive, a.end = context.WithCancel(context.Background())
	return a
}

// Location returns where the archive is.
func (a *Archive) Location() string { return a.location }

// Bucket returns what the archive is in.
func (a *Archive) Bucket() Bucket { return a.bucket }

// Close ends the reads under way, and all later ones.
func (a *Archive) Close() { a.end() }

// unavailable says that a segment cannot be had.
func (a *Archive) unavailable(s *Segment, err error) error {
	return &eventstore.ArchiveError{Segment: s.Name, Location: a.location, Cause: err}
}

// Damaged says that what was read of a segment does not verify, and forgets it: it may be put back.
func (a *Archive) Damaged(s *Segment, cause error) error {
	a.chunks.forget(s.Name)
	err := &eventstore.ArchiveDamageError{Segment: s.Name, Location: a.location, Cause: cause}
	a.faults.note(s, err)
	return err
}

// Put puts a sealed segment with its description into the bucket, and reads it back.
func (a *Archive) Put(ctx context.Context, s *Segment, body, description []byte) error {
	if err := a.put(ctx, s, s.Name, body); err != nil {
		return err
	}
	if err := a.Check(ctx, s); err != nil {
		return err
	}
	return a.put(ctx, s, DescriptionName(s.Name), description)
}

// slowest is what a bucket has to take in a second at least, in bytes.
const slowest = 1 << 20

// put puts an object of a segment, for no longer than it may take.
func (a *Archive) put(ctx context.Context, s *Segment, name string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, a.patience+time.Duration(len(body))*time.Second/slowest)
	defer cancel()
	if err := a.bucket.Put(ctx, name, body); err != nil {
		return a.unavailable(s, err)
	}
	return nil
}

// Remove removes a segment and its description.
func (a *Archive) Remove(ctx context.Context, s *Segment) error {
	for _, name := range []string{DescriptionName(s.Name), s.Name} {
		if err := a.bucket.Remove(ctx, name); err != nil {
			return a.unavailable(s, err)
		}
	}
	return nil
}

// Probe puts a small object, reads it back and removes it. The error is a *eventstore.ArchiveError.
func (a *Archive) Probe(ctx context.Context, name string) error {
	s, body := &Segment{Name: name}, []byte("whether this can be written, read and removed")
	if err := a.put(ctx, s, name, body); err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	got := make([]byte, len(body))
	err := a.bucket.ReadAt(patient, name, got, 0)
	if err == nil && !bytes.Equal(got, body) {
		err = errors.New("what was read is not what was written")
	}
	if err = errors.Join(err, a.bucket.Remove(patient, name)); err != nil {
		return a.unavailable(s, err)
	}
	return nil
}

// Reach reads a segment's last byte, to see whether its place is what it was.
func (a *Archive) Reach(ctx context.Context, s *Segment) error {
	return a.read(ctx, s, make([]byte, 1), s.Bytes-1)
}

// Check reads a whole segment past the cache, which forgets it, and compares it with its size and SHA-256. Errors: eventstore.ErrCorrupt,
// *eventstore.ArchiveError.
func (a *Archive) Check(ctx context.Context, s *Segment) error {
	a.chunks.forget(s.Name)
	sum := sha256.New()
	buf := make([]byte, min(s.Bytes, 1<<20))
	for at := int64(0); at < s.Bytes; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), s.Bytes-at)]
		if err := a.read(ctx, s, buf, at); err != nil {
			return err
		}
		sum.Write(buf)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != s.SHA256 {
		return a.Damaged(s, fmt.Errorf("%w: its SHA-256 is %s, should be %s", eventstore.ErrCorrupt, got, s.SHA256))
	}
	a.faults.clear(s)
	return nil
}

// read reads from the bucket, for no longer than it may take.
func (a *Archive) read(ctx context.Context, s *Segment, p []byte, offset int64) error {
	patient, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	err := a.bucket.ReadAt(patient, s.Name, p, offset)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return a.Damaged(s, fmt.Errorf("%w: it ends before byte %d, should have %d", eventstore.ErrCorrupt, offset+int64(len(p)), s.Bytes))
	case err != nil:
		err = a.unavailable(s, err)
		if ctx.Err() == nil { // else it is the reader who has gone
			a.faults.note(s, err)
		}
		return err
	}
	a.faults.reached(s)
	return nil
}

// Block returns the block that holds an event, and the lsn of its last event. The bytes may be shared: they are not to be
// changed. REQUIRES: the segment has the event.
func (a *Archive) Block(s *Segment, lsn uint64) (block []byte, last uint64, err error) {
	table, err := a.table(s)
	if err != nil {
		return nil, 0, err
	}
	e := table[sort.Search(len(table), func(i int) bool { return table[i].last >= lsn })]
	if block, err = a.bytes(s, e.offset, e.length); err != nil {
		return nil, 0, err
	}
	return block, e.last, nil
}

// table returns the entries of a segment.
func (a *Archive) table(s *Segment) ([]entry, error) {
	got := a.chunks.get(chunkKey{s.Name, tableChunk}, func() (any, int64, error) {
		b := make([]byte, s.Bytes-s.tableAt())
		if err := a.read(a.alive, s, b, s.tableAt()); err != nil {
			return nil, 0, err
		}
		entries, err := parseTable(s, b)
		if err != nil {
			err = a.Damaged(s, err)
		}
		return entries, int64(len(b)), err
	})
	entries, _ := got.value.([]entry)
	return entries, got.err
}

// bytes returns a piece of a segment, through the cache.
func (a *Archive) bytes(s *Segment, offset int64, length int) ([]byte, error) {
	first, last := offset/chunkBytes, (offset+int64(length)-1)/chunkBytes
	var piece []byte
	for n := first; n <= last; n++ {
		chunk, err := a.chunk(s, n)
		if err != nil {
			return nil, err
		}
		from := max(offset-n*chunkBytes, 0)
		to := min(offset+int64(length)-n*chunkBytes, int64(len(chunk)))
		if first == last {
			return chunk[from:to:to], nil
		}
		if piece == nil {
			piece = make([]byte, 0, length)
		}
		piece = append(piece, chunk[from:to]...)
	}
	return piece, nil
}

// chunk returns the n-th chunk of a segment's blocks.
func (a *Archive) chunk(s *Segment, n int64) ([]byte, error) {
	got := a.chunks.get(chunkKey{s.Name, n}, func() (any, int64, error) {
		b := make([]byte, min(chunkBytes, s.tableAt()-n*chunkBytes))
		err := a.read(a.alive, s, b, n*chunkBytes)
		return b, int64(len(b)), err
	})
	b, _ := got.value.([]byte)
	return b, got.err
}

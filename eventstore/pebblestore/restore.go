package pebblestore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// RestoreOptions say what to restore, and into which life. The zero value restores all of it.
type RestoreOptions struct {
	// Store is for the store that is made: its site and shard, where they are given, must be those of the log.
	Store *Options
	// At, when not zero, is the position of the last event to keep, with the rest of its batch; lsn 0 keeps none.
	At eventstore.Position
	// Until, when not zero, keeps what happened up to that moment: batches whose events are all no later. One before the
	// first of them is refused.
	Until time.Time
	// Incarnation is the new life of the log; zero means one more than any that the backup and the folder tell of, and it
	// must not be less.
	Incarnation uint32
	// Claim, when not nil, is told the incarnation that would be taken, and returns the one to take, which is that or a
	// higher one: for those who know of other lives, and who make it known that this one has begun.
	Claim func(ctx context.Context, incarnation uint32) (uint32, error)
	// Progress, when not nil, is called now and then with events.
	Progress func(done, total uint64)
}

// Restored says what a restore made.
type Restored struct {
	// Log is the log in its new life, Before the life of its last event.
	Log, Before eventstore.LogID
	// Position is that of the last event, Seq and Chain are those of its life. LastEvent is when it happened.
	Position  eventstore.Position
	Seq       uint64
	Chain     eventstore.Hash
	LastEvent time.Time
	Streams   uint64
	// Dropped is how many events of the backup were left out, as asked.
	Dropped uint64
}

// Restore makes a store in a folder from a backup. The log goes on in a new life: its events keep their dots, positions
// carry the new incarnation, so that what was handed out after the backup was made is never taken for what comes now.
//
// Everything is checked before it counts: manifest and files by their checksums, then every event as Verify checks it. A
// folder that has a store is left alone. A folder in which a restore failed or was killed is marked, cannot be opened, and
// may be restored into again.
//
// Errors: eventstore.ErrInvalid for a folder that has a store, a site or shard that does not fit, or an incarnation that
// is too low or beyond the last; ErrBackup; ErrNewerFormat; eventstore.ErrCorrupt, naming the file; eventstore.ErrWrongIncarnation for a
// position that the backup does not have; ErrLocked.
func Restore(ctx context.Context, from, dir string, o RestoreOptions) (Restored, error) {
	r := restore{o: o, from: from, files: o.Store.orDefault().fs()}
	restored, err := r.run(ctx, dir)
	if err != nil {
		return Restored{}, fmt.Errorf("restore %s into %s: %w", from, dir, err)
	}
	return restored, nil
}

// RestoreEvents makes a store in a folder from the events of a log, given from the first on in whole batches, as its topic
// has them. It does what Restore does; the positions of the events do not count. At, Until and Progress are not for it.
//
// Errors are those of Restore and of events; eventstore.ErrNotFound when there are none.
func RestoreEvents(ctx context.Context, events iter.Seq2[[]eventstore.Recorded, error], dir string, o RestoreOptions) (Restored, error) {
	restored, err := restoreEvents(ctx, events, dir, &o)
	if err != nil {
		return Restored{}, fmt.Errorf("restore into %s: %w", dir, err)
	}
	return restored, nil
}

func restoreEvents(ctx context.Context, events iter.Seq2[[]eventstore.Recorded, error], dir string, o *RestoreOptions) (r Restored, err error) {
	if o.At != (eventstore.Position{}) || !o.Until.IsZero() {
		return r, fmt.Errorf("%w: a topic is restored whole", eventstore.ErrInvalid)
	}
	if err := o.checkIncarnation(); err != nil {
		return r, err
	}
	b, err := newBuilder(dir, o.Store)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for batch, err := range events {
		if err != nil {
			return r, err
		}
		if b.check == nil {
			b.begin(history{id: batch[0].Dot.Log}, false)
		}
		for i := range batch {
			if err := b.event(&batch[i]); err != nil {
				return r, err
			}
		}
	}
	if b.check == nil {
		return r, fmt.Errorf("%w: there are no events to restore", eventstore.ErrNotFound)
	}
	incarnation, err := b.incarnation(ctx, o)
	if err != nil {
		return r, err
	}
	return b.restored(ctx, incarnation, b.head.lsn)
}

func (o *Options) orDefault() *Options {
	if o == nil {
		return &Options{}
	}
	return o
}

// restore is a restore from a backup under way.
type restore struct {
	o     RestoreOptions
	from  string
	files vfs.FS
	m     *manifest
	b     *builder
}

func (r *restore) run(ctx context.Context, dir string) (restored Restored, err error) {
	if r.m, err = readManifest(r.files, r.from); err != nil {
		return restored, err
	}
	if o := r.o.Store; o != nil {
		if err := r.m.Log.fits(o); err != nil {
			return restored, err
		}
	}
	store := *r.o.Store.orDefault()
	store.Site, store.Shard = r.m.Log.Site, r.m.Log.Shard
	if err := r.checkAsked(); err != nil {
		return restored, err
	}
	// Nothing is made before all files are known to be what was written.
	if err := r.checkFiles(ctx); err != nil {
		return restored, err
	}
	end, err := r.end(ctx)
	if err != nil {
		return restored, err
	}
	if r.b, err = newBuilder(dir, &store); err != nil {
		return restored, err
	}
	defer func() { err = errors.Join(err, r.b.close()) }()
	if err := r.build(ctx, end); err != nil {
		return restored, err
	}
	incarnation, err := r.begin(ctx)
	if err != nil {
		return restored, err
	}
	return r.b.restored(ctx, incarnation, r.m.LSN)
}

// build gives the builder all blocks up to an lsn.
func (r *restore) build(ctx context.Context, end uint64) error {
	b := r.b
	b.begin(r.m.Log.history(), r.m.Log.noted())
	b.dropped = r.m.Log.Dropped
	for cur, err := range r.blocks(ctx) {
		switch {
		case err != nil:
			return err
		case cur.first > end:
			return nil
		case cur.last() > end:
			return b.part(&cur.block, int(end-cur.first)+1)
		}
		if err := b.block(&cur.block, cur.raw); err != nil {
			return err
		}
		if r.o.Progress != nil {
			r.o.Progress(b.head.lsn, end)
		}
	}
	if end == r.m.LSN && (b.head.lsn != end || b.head.seq != r.m.Seq || b.head.chain != eventstore.Hash(r.m.Chain)) {
		return fmt.Errorf("%w: the blocks go to lsn %d with chain %x, the manifest says %d with %x",
			eventstore.ErrCorrupt, b.head.lsn, b.head.chain[:8], r.m.LSN, r.m.Chain[:8])
	}
	return nil
}

// checkAsked checks the life and the place that were asked for.
func (r *restore) checkAsked() error {
	if err := r.o.checkIncarnation(); err != nil {
		return err
	}
	at, h := r.o.At, r.m.Log.history()
	if at == (eventstore.Position{}) {
		return nil
	}
	if !r.o.Until.IsZero() {
		return fmt.Errorf("%w: a position and a time are two places to end at; name one", eventstore.ErrInvalid)
	}
	head := eventstore.Position{Incarnation: r.m.Log.Incarnation, LSN: r.m.LSN}
	for _, l := range h.earlier { // positions that were given out in an earlier life are still good up to its end
		if l.Incarnation == at.Incarnation {
			head = eventstore.Position{Incarnation: l.Incarnation, LSN: l.LSN}
		}
	}
	return at.Check(head)
}

// begin returns the life that the log goes on in, which no other restore of the backup begins.
func (r *restore) begin(ctx context.Context) (incarnation uint32, err error) {
	lock, unlocked := r.lock(ctx)
	if unlocked == nil {
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	for {
		others, err := begun(r.files, r.from)
		if err != nil {
			return 0, err
		}
		for _, other := range others {
			r.b.seen = max(r.b.seen, other)
		}
		incarnation, err := r.b.incarnation(ctx, &r.o)
		if err != nil {
			return 0, err
		}
		if err := r.note(incarnation, unlocked); !errors.Is(err, errBegun) {
			return incarnation, err
		}
	}
}

const (
	restoreLockEvery    = 20 * time.Millisecond
	restoreLockPatience = 30 * time.Second
)

// lock keeps other restores of the backup from taking a life until it is closed.
func (r *restore) lock(ctx context.Context) (io.Closer, error) {
	for start := time.Now(); ; {
		lock, err := lockFolder(r.files, r.from)
		if !errors.Is(err, ErrLocked) || time.Since(start) >= restoreLockPatience {
			return lock, err
		}
		select {
		case <-time.After(restoreLockEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// note notes in the backup that a life begins, so that another restore of it does not begin the same. Where that cannot be
// noted, or the backup could not be locked, somebody else must have seen to it. Errors: errBegun.
func (r *restore) note(incarnation uint32, unlocked error) error {
	err := unlocked
	if err == nil || r.o.Incarnation != 0 || r.o.Claim != nil {
		err = errors.Join(noteBegun(r.files, r.from, incarnation), unlocked)
	}
	switch {
	case err == nil || errors.Is(err, errBegun):
		return err
	case r.o.Incarnation == 0 && r.o.Claim == nil:
		return fmt.Errorf("note in the backup that incarnation %d begins, so that no other restore of it begins the same: %w; "+
			"make the backup's folder writable, or name an incarnation that no life of this log has had", incarnation, err)
	}
	r.b.opts.Logger.Warn("it could not be noted in the backup that this life of the log begins", "incarnation", incarnation, "error", err)
	return nil
}

// lastIncarnation is the largest that a restore begins. The one above it is never begun, so that it can be told that none is
// left.
const lastIncarnation = math.MaxUint32 - 1

// checkIncarnation checks the one that was asked for by itself.
func (o *RestoreOptions) checkIncarnation() error {
	if o.Incarnation > lastIncarnation {
		return fmt.Errorf("%w: incarnation %d was asked for, but %d is the last", eventstore.ErrInvalid, o.Incarnation, uint32(lastIncarnation))
	}
	return nil
}

// incarnation returns the one in which the log that was given goes on.
func (b *builder) incarnation(ctx context.Context, o *RestoreOptions) (uint32, error) {
	if err := b.seal(); err != nil { // the last life is known only now
		return 0, err
	}
	before := max(b.history.id.Incarnation, b.seen)
	if before >= lastIncarnation {
		return 0, fmt.Errorf("%w: no incarnation is left, there was %d already", eventstore.ErrInvalid, before)
	}
	if o.Incarnation != 0 && o.Incarnation <= before {
		return 0, fmt.Errorf("%w: incarnation %d was asked for, but there was %d already", eventstore.ErrInvalid, o.Incarnation, before)
	}
	incarnation := max(o.Incarnation, before+1)
	if o.Claim == nil {
		return incarnation, nil
	}
	claimed, err := o.Claim(ctx, incarnation)
	if err == nil && (claimed < incarnation || claimed > lastIncarnation) {
		err = fmt.Errorf("%w: %d was claimed", eventstore.ErrInvalid, claimed)
	}
	if err != nil {
		return 0, fmt.Errorf("begin incarnation %d: %w", incarnation, err)
	}
	return claimed, nil
}

// restored finishes a restore of which all events have been given: out of a total of so many.
func (b *builder) restored(ctx context.Context, incarnation uint32, total uint64) (Restored, error) {
	r := Restored{
		Before: b.history.logAt(b.head.lsn), Seq: b.head.seq, Chain: b.head.chain, Streams: uint64(len(b.check.streams)),
		Dropped: total - b.head.lsn,
	}
	if l, ends := b.history.ending(b.head.lsn); ends {
		r.Seq, r.Chain = l.Seq, eventstore.Hash(l.Chain)
	}
	if b.head.lsn > 0 {
		r.LastEvent = b.last.Time()
	}
	state, err := b.finish(ctx, incarnation)
	if err != nil {
		return Restored{}, err
	}
	r.Log, r.Position = state.ID, state.Durable
	return r, nil
}

// checkFiles reads all files and compares them with the manifest.
func (r *restore) checkFiles(ctx context.Context) error {
	next := uint64(1)
	for i := range r.m.Files {
		f := &r.m.Files[i]
		if f.First != next || f.Last < f.First {
			return fmt.Errorf("%w: %s holds lsn %d to %d, but %d is what follows", eventstore.ErrCorrupt, f.Name, f.First, f.Last, next)
		}
		next = f.Last + 1
		if err := r.checkFile(ctx, f); err != nil {
			return err
		}
	}
	if next != r.m.LSN+1 {
		return fmt.Errorf("%w: the files go to lsn %d, the manifest says %d", eventstore.ErrCorrupt, next-1, r.m.LSN)
	}
	return nil
}

func (r *restore) checkFile(ctx context.Context, s *segment) error {
	f, err := r.files.Open(r.files.PathJoin(r.from, s.Name), vfs.SequentialReadsOption)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", eventstore.ErrCorrupt, s.Name, err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, readerUntil{ctx, f})
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", s.Name, err)
	case n != s.Bytes:
		return fmt.Errorf("%w: %s has %d bytes, the manifest says %d", eventstore.ErrCorrupt, s.Name, n, s.Bytes)
	case fmt.Sprintf("%x", sum.Sum(nil)) != s.SHA256:
		return fmt.Errorf("%w: %s does not have the checksum that the manifest says", eventstore.ErrCorrupt, s.Name)
	}
	return nil
}

// readerUntil is a reader that ends with a context.
type readerUntil struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r readerUntil) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// sealed is a block with the bytes that it was opened from.
type sealed struct {
	block
	raw []byte
}

// blocks yields the blocks of all files in order; one is valid until the next. It reports progress.
func (r *restore) blocks(ctx context.Context) iter.Seq2[*sealed, error] {
	return func(yield func(*sealed, error) bool) {
		var cur sealed
		for i := range r.m.Files {
			s := &r.m.Files[i]
			err := r.eachBlock(ctx, s, &cur, func() bool { return yield(&cur, nil) })
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("%s: %w", s.Name, err))
				return
			}
		}
	}
}

// errEnough: the reader wants no more blocks.
var errEnough = errors.New("enough")

func (r *restore) eachBlock(ctx context.Context, s *segment, cur *sealed, yield func() bool) error {
	f, err := r.files.Open(r.files.PathJoin(r.from, s.Name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(readerUntil{ctx, f}, 1<<20)
	var size [4]byte
	for left := s.Bytes; left > 0; {
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint32(size[:]))
		if left -= 4 + n; left < 0 || n < footerBytes {
			return fmt.Errorf("%w: a block of %d bytes", eventstore.ErrCorrupt, n)
		}
		cur.raw = slices.Grow(cur.raw[:0], int(n))[:n]
		if _, err := io.ReadFull(in, cur.raw); err != nil {
			return err
		}
		if cur.block, err = openBlock(sealedEnd(cur.raw), cur.raw); err != nil {
			return err
		}
		if !yield() {
			return errEnough
		}
	}
	return nil
}

// sealedEnd returns the last lsn of a block as its footer has it. REQUIRES: it is as long as a footer.
func sealedEnd(raw []byte) uint64 {
	f := raw[len(raw)-footerBytes:]
	return binary.BigEndian.Uint64(f[32:]) + uint64(binary.BigEndian.Uint32(f[48:])) - 1
}

// end returns the lsn of the last event to restore: that of a batch's last event.
func (r *restore) end(ctx context.Context) (uint64, error) {
	switch wanted := r.o.At != (eventstore.Position{}); {
	case !wanted && r.o.Until.IsZero():
		return r.m.LSN, nil
	case wanted && r.o.At.LSN == 0:
		return 0, nil
	}
	for b, err := range r.blocks(ctx) {
		if err != nil {
			return 0, err
		}
		if end, found, err := r.endIn(&b.block); found || err != nil {
			return end, err
		}
	}
	return r.m.LSN, nil
}

// endIn returns the lsn of the last event to restore, if a block tells.
func (r *restore) endIn(b *block) (end uint64, found bool, err error) {
	var e eventstore.Recorded
	decode := func(lsn uint64) error {
		i := int(lsn - b.first)
		frame, err := b.frame(i)
		if err != nil {
			return err
		}
		return b.decode(&e, i, frame, r.m.Log.Incarnation)
	}
	if at := r.o.At.LSN; at > 0 {
		if !b.holds(at) {
			return 0, false, nil
		}
		err := decode(at)
		return at + e.Batch.FirstSeq + uint64(e.Batch.Count) - 1 - e.Dot.Seq, true, err
	}
	// Events that were born in the log stand in the order of their time.
	if b.notes == nil {
		if err := decode(b.last()); err != nil || !e.Time().After(r.o.Until) {
			return 0, false, err
		}
	}
	for lsn := b.first; lsn <= b.last(); lsn++ {
		if err := decode(lsn); err != nil {
			return 0, true, err
		}
		if b.foreign(int(lsn-b.first)) || !e.Time().After(r.o.Until) {
			continue
		}
		if end = lsn - 1 - (e.Dot.Seq - e.Batch.FirstSeq); end > 0 {
			return end, true, nil
		}
		return 0, true, fmt.Errorf("%w: there is nothing of before %s to restore, the first event is of %s", eventstore.ErrInvalid,
			r.o.Until.Format(time.RFC3339Nano), e.Time().Format(time.RFC3339Nano))
	}
	return 0, false, nil
}

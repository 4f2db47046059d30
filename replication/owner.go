package replication

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Fence says which streams a shard may write: those of categories that are not homed, and of the others those whose cell
// belongs to it. It is made before the store that asks it (Check), and lets nothing homed through until an Owner has read
// from that store who owns what. It is safe for concurrent use.
type Fence struct {
	self    Shard
	homed   func(category string) bool
	blocked atomic.Pointer[Blocked] // nil: nothing
	atHome  atomic.Pointer[func() error]

	mu      sync.RWMutex  // guards what follows
	cells   []Cell        // by number; nil: not known yet
	digests []CellsDigest // of cells; nil: to be made
	closing map[uint16]Shard

	takenIn atomic.Uint64 // TakenIn
}

// NewFence returns the fence of a shard. homed says whether streams of a category are written at their home alone.
func NewFence(self Shard, homed func(category string) bool) *Fence {
	return &Fence{self: self, homed: homed, closing: map[uint16]Shard{}}
}

// Check is an eventstore.Fence.
func (f *Fence) Check(stream eventstore.StreamID, cell uint16) (epoch uint32, err error) {
	if eventstore.IsSystemCategory(stream.Category) {
		return 0, f.givesAway(stream)
	}
	homed := f.homed(stream.Category)
	if why := f.blocks(stream.Category, cell, homed); why != "" {
		return 0, &eventstore.BlockedError{Stream: stream, Cell: cell, Mode: string(WriteBlocked), Why: why}
	}
	if !homed {
		return 0, nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.cells == nil {
		return 0, fmt.Errorf("stream %s: %w: it is not known yet who owns its cell", stream, eventstore.ErrUnavailable)
	}
	c := f.cells[cell]
	if to, closing := f.closing[cell]; closing {
		c.Sealed, c.Next = true, to
	}
	switch {
	case c.Sealed:
		return 0, &eventstore.NotHomeError{Stream: stream, Cell: cell, Home: c.Next.String(), Epoch: c.Epoch, Moving: true}
	case c.Home != f.self:
		return 0, &eventstore.NotHomeError{Stream: stream, Cell: cell, Home: c.Home.String(), Epoch: c.Epoch}
	}
	if err := f.away(); err != nil {
		return 0, fmt.Errorf("stream %s: %w", stream, err)
	}
	return c.Epoch, nil
}

// givesAway returns an error when a cell that is being given away may be somebody else's by now: in an earlier life of its log, or
// while others took it for gone, the site may have given it away already.
func (f *Fence) givesAway(stream eventstore.StreamID) error {
	cell, ok := numberOf(stream)
	if !ok {
		return nil
	}
	f.mu.RLock()
	_, closing := f.closing[cell]
	f.mu.RUnlock()
	if !closing {
		return nil
	}
	return f.away()
}

// away returns why others may have what is this shard's; nil: they have not.
func (f *Fence) away() error {
	if atHome := f.atHome.Load(); atHome != nil {
		return (*atHome)()
	}
	return nil
}

// Watch has nothing homed written, and no cell given away or opened, while atHome, such as Site.AtHome, has an error. It must not block.
func (f *Fence) Watch(atHome func() error) { f.atHome.Store(&atHome) }

// Block holds back what sites do not agree on, in place of what was held back before.
func (f *Fence) Block(b Blocked) {
	if !b.Any() {
		f.blocked.Store(nil)
		return
	}
	f.blocked.Store(&b)
}

// blocks says why a stream may not be written because of what sites do not agree on; nothing when it may.
func (f *Fence) blocks(category string, cell uint16, homed bool) string {
	b := f.blocked.Load()
	switch {
	case b == nil:
		return ""
	case b.Categories[category] != "":
		return b.Categories[category]
	case !homed:
		return ""
	case b.All != "":
		return b.All
	}
	return b.Cells[cell]
}

// Homed reports whether streams of a category are written at their home alone.
func (f *Fence) Homed(category string) bool { return f.homed(category) }

// Cell returns who may write a cell; known is false before an Owner has read it.
func (f *Fence) Cell(cell uint16) (c Cell, known bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.cells == nil {
		return Cell{Number: cell}, false
	}
	return f.cells[cell], true
}

// Digest is a hash of who owns what: sites that know the same of the cells have the same.
func (f *Fence) Digest() (digest [16]byte) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	h := sha256.New()
	for _, c := range f.cells {
		var b [5]byte
		binary.BigEndian.PutUint32(b[:], c.Epoch)
		if c.Sealed {
			b[4] = 1
		}
		h.Write(b[:])
		h.Write([]byte(c.Home.String() + " " + c.Next.String() + "\n"))
	}
	copy(digest[:], h.Sum(nil))
	return digest
}

// TakenIn returns the place in the log up to which the fence knows what is on record, and so does who is told of takeovers (Owner.Told).
func (f *Fence) TakenIn() uint64 { return f.takenIn.Load() }

// set notes who may write a cell.
func (f *Fence) set(c Cell) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cells[c.Number], f.digests = c, nil
}

// close lets nothing more of a cell through, from now on; open undoes it.
func (f *Fence) close(cell uint16, to Shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing[cell] = to
}

func (f *Fence) open(cell uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.closing, cell)
}

// Owner keeps the fence of a shard as the log says, and moves cells.
//
// A cell moves in two steps, and is never written by two: its home closes the fence and then records that it is sealed, so that
// all it has written of the cell stands before that in its log; the other shard, once it has received the seal, has received all
// of that too, and records that it has opened the cell, under the next epoch.
type Owner struct {
	fence *Fence
	ring  *Ring
	store eventstore.Store
	log   *slog.Logger
	at    eventstore.Position // up to where the log is taken in

	// Told, when not nil, is told events of takeovers: first all that there are, then each, when the fence knows what came with them. It
	// returns when they are taken in. It is set before Run.
	Told   func(context.Context, []eventstore.Recorded) error
	stands []eventstore.Recorded // what it is told first

	moves sync.Mutex // held while a cell is read and the fence set, given away or taken: one at a time

	mu      sync.Mutex // guards tenures
	tenures tenures
}

// NewOwner reads from the store who owns what, and has the fence let through what this shard may write.
func NewOwner(ctx context.Context, f *Fence, r *Ring, store eventstore.Store, log *slog.Logger) (*Owner, error) {
	if log == nil {
		log = slog.Default()
	}
	o := &Owner{fence: f, ring: r, store: store, log: log, tenures: tenures{}}
	state, err := store.Log(ctx)
	if err != nil {
		return nil, fmt.Errorf("read who owns the cells: %w", err)
	}
	cells := make([]Cell, eventstore.Cells)
	for i := range cells {
		cells[i] = Cell{Number: uint16(i), Home: r.Of(uint16(i))}
	}
	moved := map[uint16]bool{}
	for e, err := range store.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Categories: []string{CellCategory, TakeoverCategory}, Until: state.Durable}) {
		if err != nil {
			return nil, fmt.Errorf("read who owns the cells: %w", err)
		}
		if e.Stream.Category == TakeoverCategory {
			o.stands = append(o.stands, e)
		} else if cell, ok := cellOf(&e); ok {
			moved[cell] = true
		}
	}
	if err := o.tenures.read(o.stands); err != nil {
		return nil, err
	}
	for cell := range moved {
		if cells[cell], _, err = o.read(ctx, cell); err != nil {
			return nil, err
		}
	}
	o.at = state.Durable
	f.mu.Lock()
	f.cells, f.digests = cells, nil
	f.mu.Unlock()
	return o, nil
}

// cellOf returns the cell that an event of CellCategory is about.
func cellOf(e *eventstore.Recorded) (cell uint16, ok bool) { return numberOf(e.Stream) }

// numberOf returns the cell that a stream of CellCategory is of.
func numberOf(stream eventstore.StreamID) (cell uint16, ok bool) {
	n, err := strconv.ParseUint(stream.ID, 10, 16)
	return uint16(n), err == nil && n < eventstore.Cells && stream == CellStream(uint16(n))
}

// read folds the stream of a cell, and returns the stream's version.
func (o *Owner) read(ctx context.Context, cell uint16) (c Cell, version uint64, err error) {
	var events []eventstore.Recorded
	for e, err := range o.store.Read(ctx, CellStream(cell), 1) {
		if err != nil {
			return c, 0, fmt.Errorf("read who owns cell %d: %w", cell, err)
		}
		events = append(events, e)
	}
	c, err = FoldCell(o.ring, cell, events)
	return c, uint64(len(events)), err
}

// Run follows the log until ctx ends: it takes in what other shards have done, and opens the cells that were sealed for this
// one. What passes by itself it waits for; it returns an error for what does not.
func (o *Owner) Run(ctx context.Context) error {
	if o.Told != nil {
		if err := o.Told(ctx, o.stands); err != nil {
			return err
		}
	}
	o.fence.takenIn.Store(o.at.LSN)
	for {
		err := o.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !passes(err) {
			return err
		}
		o.log.Warn("who owns the cells cannot be followed, and is tried again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// passes reports whether an error of the store passes by itself.
func passes(err error) bool {
	return eventstore.ClassOf(err) == eventstore.Transient && !errors.Is(err, eventstore.ErrClosed)
}

// follow takes in what the log says, and opens what is sealed for this shard. What cannot be opened now, for the store takes no writes,
// keeps nobody from learning what comes after it.
func (o *Owner) follow(ctx context.Context) error {
	sub, err := o.store.Subscribe(ctx, o.at, eventstore.Filter{Categories: []string{CellCategory, TakeoverCategory}})
	if err != nil {
		return fmt.Errorf("follow who owns the cells: %w", err)
	}
	defer sub.Close()
	var told time.Time // that some cannot be opened
	for {
		err := o.openSealed(ctx)
		later := err != nil && (passes(err) || errors.Is(err, eventstore.ErrReadOnly))
		switch {
		case err != nil && !later || ctx.Err() != nil:
			return err
		case later && time.Since(told) > sayAgain:
			told = time.Now()
			o.log.Warn("cells that this site is given are not opened yet, and are tried again", "error", err)
		}
		chunk, err := next(ctx, sub, later)
		if err != nil {
			return fmt.Errorf("follow who owns the cells: %w", err)
		}
		if err := o.takeIn(ctx, chunk.Events); err != nil {
			return err
		}
		if chunk.Position != (eventstore.Position{}) { // it has gone on
			o.at = chunk.Position
			o.fence.takenIn.Store(o.at.LSN)
		}
	}
}

// sayAgain is after what time it is said again that cells cannot be opened, for each of which it may be so for a moment.
const sayAgain = time.Minute

// openAgain is after what time it is tried again to open what could not be opened.
const openAgain = 100 * time.Millisecond

// next waits for the log to go on, or for openAgain, if something is to be done then: the chunk is empty, and has no position.
func next(ctx context.Context, sub eventstore.Subscription, later bool) (chunk eventstore.Chunk, err error) {
	if !later {
		return sub.Next(ctx)
	}
	waiting, cancel := context.WithTimeout(ctx, openAgain)
	defer cancel()
	if chunk, err = sub.Next(waiting); err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return chunk, nil
	}
	return chunk, err
}

// takeIn takes in events of cells and of takeovers.
func (o *Owner) takeIn(ctx context.Context, events []eventstore.Recorded) error {
	var takeovers []eventstore.Recorded
	for i := range events {
		if events[i].Stream.Category == TakeoverCategory {
			takeovers = append(takeovers, events[i])
		} else if cell, ok := cellOf(&events[i]); ok {
			if err := o.learn(ctx, cell); err != nil {
				return err
			}
		}
	}
	if len(takeovers) == 0 {
		return nil
	}
	return o.tell(ctx, takeovers)
}

// learn takes in what the log says of a cell. It has the turn from reading on: nothing that is older than a move is ever given to the
// fence.
func (o *Owner) learn(ctx context.Context, cell uint16) error {
	o.moves.Lock()
	defer o.moves.Unlock()
	_, _, err := o.learnLocked(ctx, cell)
	return err
}

// learnLocked is learn, and returns the cell and the version of its stream. REQUIRES: moves.
func (o *Owner) learnLocked(ctx context.Context, cell uint16) (c Cell, version uint64, err error) {
	if c, version, err = o.read(ctx, cell); err != nil {
		return c, 0, err
	}
	before, _ := o.fence.Cell(cell)
	o.fence.set(c)
	if c != before {
		o.log.Debug("a cell has moved", "cell", cell, "home", c.Home.String(), "epoch", c.Epoch, "sealed", c.Sealed)
	}
	return c, version, nil
}

// openSealed opens the cells that are known to be sealed for this shard.
func (o *Owner) openSealed(ctx context.Context) error {
	for cell := range uint16(eventstore.Cells) {
		if c, _ := o.fence.Cell(cell); c.Sealed && c.Next == o.fence.self {
			if err := o.openCell(ctx, cell); err != nil {
				return err
			}
		}
	}
	return nil
}

// openCell opens a cell, if it is sealed for this shard, and this site has not agreed to a takeover of the one by which it was.
func (o *Owner) openCell(ctx context.Context, cell uint16) error {
	o.moves.Lock()
	defer o.moves.Unlock()
	for {
		c, version, err := o.learnLocked(ctx, cell)
		if err != nil || !c.Sealed || c.Next != o.fence.self || o.agreed(c) != "" {
			return err
		}
		e, err := c.open(o.fence.self)
		if err == nil {
			err = o.fence.away() // an earlier life of its log may have opened it, and given it away since
		}
		if err != nil {
			return err
		}
		if err := o.record(ctx, cell, version, e); err != nil && !errors.Is(err, eventstore.ErrConflict) { // somebody was quicker
			return err
		}
	}
}

// record appends an event to a cell's stream, if that is as it was read.
func (o *Owner) record(ctx context.Context, cell uint16, version uint64, e eventstore.Event) error {
	_, err := o.store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: CellStream(cell), Expect: eventstore.Exactly(version), Events: []eventstore.Event{e},
	}}})
	if err != nil {
		return fmt.Errorf("cell %d: %w", cell, err)
	}
	return nil
}

// Move gives a cell of this shard to another, and returns when it is sealed; the other opens it when it has received that. It
// does not leave when ctx ends before it is known what became of the seal. While others may have taken the cell, it is
// eventstore.ErrUnavailable (Fence.Watch). REQUIRES: there is such a shard.
func (o *Owner) Move(ctx context.Context, cell uint16, to Shard) error {
	if cell >= eventstore.Cells {
		return fmt.Errorf("%w: cell %d; there are %d, from 0 on", eventstore.ErrInvalid, cell, eventstore.Cells)
	}
	o.moves.Lock()
	defer o.moves.Unlock()
	c, version, err := o.read(ctx, cell)
	if err != nil {
		return err
	}
	e, err := c.seal(o.fence.self, to)
	switch {
	case err == nil && to == o.fence.self:
		return fmt.Errorf("%w: cell %d would move to where it is", eventstore.ErrInvalid, cell)
	case err != nil || c.Sealed:
		return err
	}
	// INVARIANT: nothing of the cell is accepted after the seal: the fence is closed before the store is given the seal, and
	// opens again only when the store has said that it has none.
	o.fence.close(cell, to)
	defer o.fence.open(cell)
	ctx = context.WithoutCancel(ctx)
	if err := o.record(ctx, cell, version, e); err != nil {
		return err
	}
	c.Sealed, c.Next = true, to
	o.fence.set(c)
	return nil
}

package pebblestore

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/tributary-es/tributary/eventstore"
)

// ReadFrames implements eventstore.FrameReader.
func (s *Store) ReadFrames(ctx context.Context, after eventstore.Position, size int) iter.Seq2[eventstore.Frames, error] {
	return func(yield func(eventstore.Frames, error) bool) {
		end, err := s.checkPosition(ctx, after)
		if err != nil {
			yield(eventstore.Frames{}, err)
			return
		}
		cursor := s.logCursor()
		var blocks []block
		for lsn := after.LSN + 1; lsn <= end && err == nil; {
			memory := framesMemory.get(size)
			cursor.tables.lent = memory.bytes
			blocks, err = s.blocksFor(ctx, cursor, blocks[:0], lsn, end, size)
			if lsn <= s.dropped.Load() {
				err = s.truncated()
				break
			}
			pieces := framePieces{next: s.position(lsn), end: end, size: size}
			for i := range blocks {
				if broken := pieces.add(&blocks[i]); broken != nil {
					err = broken
					break
				}
			}
			clear(blocks)
			pieces.cut()
			memory.users.Store(int32(len(pieces.done)))
			for _, piece := range pieces.done {
				piece.Release = memory.release
				if !yield(piece, nil) {
					return
				}
			}
			lsn = pieces.next.LSN
		}
		if err != nil {
			yield(eventstore.Frames{}, err)
		}
	}
}

// lentMemory is what the blocks of some pieces are read into. It goes back to its pool when all of them were released; without
// that it is the collector's.
type lentMemory struct {
	bytes []byte
	users atomic.Int32 // pieces that were not released
}

func (m *lentMemory) release() {
	if m.users.Add(-1) == 0 {
		framesMemory.pool.Put(m)
	}
}

// framesMemory is what all reads of frames share.
var framesMemory lentPool

type lentPool struct{ pool sync.Pool }

// get returns memory for blocks whose frames have about size bytes.
func (p *lentPool) get(size int) *lentMemory {
	if m, ok := p.pool.Get().(*lentMemory); ok && len(m.bytes) >= size {
		return m
	}
	return &lentMemory{bytes: make([]byte, size+size/4)}
}

// blocksFor is read of a cursor for those who do not hold the databases: a reader who is slow keeps nothing alive.
func (s *Store) blocksFor(ctx context.Context, c *logCursor, dst []block, lsn, to uint64, size int) ([]block, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return dst, err
	}
	defer release()
	return c.read(dst, lsn, to, size)
}

// framePieces makes pieces of size bytes of blocks that follow each other, up to an lsn.
type framePieces struct {
	next eventstore.Position // of the first frame that is in no piece yet
	end  uint64
	size int

	done  []eventstore.Frames
	piece eventstore.Frames
	bytes int // of piece
}

// add takes a block from the next frame on. Whole blocks are taken as they are, larger ones frame by frame.
func (p *framePieces) add(b *block) error {
	last := min(p.end, b.last())
	for p.next.LSN <= last {
		to := last
		frames, err := b.frames(p.next.LSN, to)
		if err == nil && len(frames) > p.size {
			to = p.next.LSN
			frames, err = b.frames(to, to)
		}
		if err != nil {
			return err
		}
		if p.bytes+len(frames) > p.size+p.size/8 { // so that the last of the blocks that were read is no piece of its own
			p.cut()
		}
		if p.piece.Count == 0 {
			p.piece.First = p.next
		}
		p.piece.Parts = append(p.piece.Parts, frames)
		if len(b.notes) > 0 {
			for lsn := p.next.LSN; lsn <= to; lsn++ {
				if b.notes[lsn-b.first].has(noteRevises) {
					p.piece.Revising = append(p.piece.Revising, uint64(p.piece.Count)+lsn-p.next.LSN)
				}
			}
		}
		p.piece.Count += int(to - p.next.LSN + 1)
		p.bytes += len(frames)
		p.next.LSN = to + 1
	}
	return nil
}

// cut ends the piece at hand.
func (p *framePieces) cut() {
	if p.piece.Count > 0 {
		p.done = append(p.done, p.piece)
		p.piece, p.bytes = eventstore.Frames{}, 0
	}
}

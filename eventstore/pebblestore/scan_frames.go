package pebblestore

import (
	"context"
	"fmt"
	"iter"

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
		var buf []byte
		for lsn := after.LSN + 1; lsn <= end; {
			piece := eventstore.Frames{First: s.position(lsn), Bytes: buf[:0]}
			if err := s.framesFor(ctx, &piece, end, size); err != nil {
				yield(eventstore.Frames{}, err)
				return
			}
			if !yield(piece, nil) {
				return
			}
			buf = piece.Bytes
			lsn += uint64(piece.Count)
		}
	}
}

// framesFor fills a piece with the frames from its place on, at most to an lsn. It holds the databases for no longer, so
// that a reader who is slow keeps nothing alive.
func (s *Store) framesFor(ctx context.Context, piece *eventstore.Frames, to uint64, size int) error {
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.blockReader()
	if err != nil {
		return err
	}
	defer r.close()
	lsn := piece.First.LSN
	if err := r.seek(lsn); err != nil {
		return err
	}
	for {
		for ; r.cur.holds(lsn) && lsn <= to; lsn++ {
			frame, err := r.cur.frame(int(lsn - r.cur.first))
			if err != nil {
				return err
			}
			if piece.Count > 0 && len(piece.Bytes)+len(frame) > size {
				return nil
			}
			piece.Bytes = append(piece.Bytes, frame...)
			piece.Count++
		}
		if lsn > to {
			return nil
		}
		found, err := r.next()
		if err != nil {
			return err
		}
		if !found || r.cur.first != lsn {
			return fmt.Errorf("log at lsn %d: %w: no block begins there", lsn, eventstore.ErrCorrupt)
		}
	}
}

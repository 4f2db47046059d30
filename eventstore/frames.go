package eventstore

import (
	"context"
	"iter"
)

// Frames is a piece of the log in the canonical encoding: Count frames, one after the other, of which the first stands at
// First and each other one at the place behind the one before, or where LSNs says. Parts have them in order, each of them
// whole. Their memory does not change until Release is called.
type Frames struct {
	First Position
	LSNs  []uint64 // of all, if set
	Count int
	Parts [][]byte
	// Revising are the numbers, from 0 on, of those whose event revises (Recorded.Revises), which no frame tells.
	Revising []uint64
	// Release, if set, says that nobody needs Parts any more, so that a store uses their memory again; it is called once at
	// most, from any goroutine. Without it whoever has Parts may keep them.
	Release func()
}

// FrameReader is implemented by stores that keep frames, for those who pass them on: a read then costs no decoding.
type FrameReader interface {
	// ReadFrames yields the log after a position, in order, up to what was durable when the read began: pieces of about
	// size bytes, or of one larger frame. ErrWrongIncarnation when the position is not
	// of this log. Frames are not checked one by one: whoever decodes them does that.
	ReadFrames(ctx context.Context, after Position, size int) iter.Seq2[Frames, error]
	// ReadStreamFrames yields a stream's events as Reader.Read does, in pieces of the same kind.
	ReadStreamFrames(ctx context.Context, stream StreamID, from uint64, size int) iter.Seq2[Frames, error]
}

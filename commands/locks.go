package commands

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// streamLocks serializes the deciding of commands by stream, within this process. That is not what makes decisions right
// (the expected version does); it keeps a popular stream from being decided in vain many times over.
//
// Waiting is first come, first served, and ends with the context. Whoever needs several streams takes them in the order
// of compareStreams, so that nobody waits in a circle.
type streamLocks struct {
	mu   sync.Mutex // guards held and every lock's users
	held map[eventstore.StreamID]*streamLock
}

type streamLock struct {
	turn  chan struct{} // holds a token while the stream is locked
	users int           // holder and waiters; at 0 the lock is dropped from the table
}

func newStreamLocks() *streamLocks {
	return &streamLocks{held: map[eventstore.StreamID]*streamLock{}}
}

// lock waits for the stream, or for ctx to end.
func (l *streamLocks) lock(ctx context.Context, stream eventstore.StreamID) error {
	l.mu.Lock()
	lock := l.held[stream]
	if lock == nil {
		lock = &streamLock{turn: make(chan struct{}, 1)}
		l.held[stream] = lock
	}
	lock.users++
	l.mu.Unlock()
	select {
	case lock.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		l.leave(stream, lock)
		return ctx.Err()
	}
}

// unlock gives the stream to the one who waited longest.
func (l *streamLocks) unlock(stream eventstore.StreamID) {
	l.mu.Lock()
	lock := l.held[stream]
	l.mu.Unlock()
	<-lock.turn
	l.leave(stream, lock)
}

func (l *streamLocks) leave(stream eventstore.StreamID, lock *streamLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lock.users--; lock.users == 0 {
		delete(l.held, stream)
	}
}

// lockAll takes the streams, which it sorts; after an error it holds none.
func (l *streamLocks) lockAll(ctx context.Context, streams []eventstore.StreamID) error {
	slices.SortFunc(streams, compareStreams)
	for i, s := range streams {
		if err := l.lock(ctx, s); err != nil {
			l.unlockAll(streams[:i])
			return err
		}
	}
	return nil
}

func (l *streamLocks) unlockAll(streams []eventstore.StreamID) {
	for _, s := range slices.Backward(streams) {
		l.unlock(s)
	}
}

func compareStreams(a, b eventstore.StreamID) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID))
}

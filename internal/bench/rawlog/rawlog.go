// Package rawlog is the yardstick for durable appends: a plain file to which records are written in groups, each group
// with one fdatasync. Nothing that keeps a promise of durability per record and does more than this can be faster on the
// same disk; benchmarks give their figures as a share of it.
package rawlog

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// Log is a file of records. It is safe for concurrent use.
type Log struct {
	file  *os.File
	wake  chan struct{} // holds a token when the group has records
	stop  chan struct{}
	ended chan struct{}

	mu     sync.Mutex // guards what follows
	group  *group     // that is being filled
	closed bool
}

// group is the records that share a write and a sync.
type group struct {
	buf  []byte
	done chan struct{} // closed when err is final
	err  error
}

// ErrClosed: the log is closed.
var ErrClosed = errors.New("raw log is closed")

// Create makes the file, or empties it.
func Create(path string) (*Log, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create raw log: %w", err)
	}
	l := &Log{
		file: file, group: &group{done: make(chan struct{})},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go l.run()
	return l, nil
}

// Append writes a record and returns when it is on disk. The record may be used again afterwards.
func (l *Log) Append(record []byte) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	g := l.group
	first := len(g.buf) == 0
	g.buf = append(g.buf, record...)
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	<-g.done
	return g.err
}

// run writes one group after the other; what comes during a sync is the next group.
func (l *Log) run() {
	defer close(l.ended)
	var spare []byte
	for open := true; open; {
		select {
		case <-l.wake:
		case <-l.stop:
			open = false
		}
		l.mu.Lock()
		g := l.group
		l.group = &group{buf: spare[:0], done: make(chan struct{})}
		l.mu.Unlock()
		if len(g.buf) > 0 {
			if _, g.err = l.file.Write(g.buf); g.err == nil {
				g.err = fdatasync(l.file)
			}
		}
		spare = g.buf
		close(g.done)
	}
}

// Close ends the log after the appends under way. It is not safe to call twice.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	<-l.ended
	return l.file.Close()
}

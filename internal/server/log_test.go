package server_test

import (
	"bytes"
	"log/slog"
	"sync"
)

// recordedLog keeps what was logged.
type recordedLog struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *recordedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *recordedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *recordedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

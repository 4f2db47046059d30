package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// heard is a log that is kept.
type heard struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *heard) lines() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Split(h.text.String(), "\n")
}

// A node says of which read model it speaks, and, of a durability that cannot be had here, what it would take.
func TestNodeNamesWhatItMeans(t *testing.T) {
	var log heard
	notes := projections.Projection[projections.Keys]{
		Name: "notes", Version: 1, Types: []string{"note.taken.v1"}, Apply: func(projections.Keys, *eventstore.Recorded) error { return nil },
	}
	n, err := Open(t.Context(), Config{
		Data: t.TempDir(), Kafka: Embedded, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Domains: []Domain{{Name: "notes", Keys: &notes}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	take := func(d eventstore.Durability) error {
		_, err := n.store.Append(ctx, eventstore.Request{Durability: d, Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		return err
	}
	if err := take(eventstore.Local); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	err = take(eventstore.Peer)
	if !errors.Is(err, eventstore.ErrUnsupported) || !strings.Contains(err.Error(), "needs another site (--peer)") {
		t.Errorf("durability peer without another site: %v", err)
	}
	state, err := n.local.Log(ctx)
	for _, m := range n.models {
		err = errors.Join(err, m.runner.Await(ctx, state.Durable))
	}
	cancel()
	if err := errors.Join(err, <-ended, n.Close()); err != nil {
		t.Fatal(err)
	}
	filled := 0
	for _, line := range log.lines() {
		if strings.Contains(line, "model is filled") {
			filled++
			if !strings.Contains(line, "model=notes-redis ") {
				t.Errorf("it does not say which model is filled: %s", line)
			}
		}
	}
	if filled != 1 {
		t.Errorf("%d models are said to be filled: %q", filled, log.lines())
	}
}

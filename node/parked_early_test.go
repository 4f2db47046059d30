package node

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// Who sees to what a model has parked before that is there is told that it is being filled, and to try again.
func TestParkedOfAModelThatIsFilled(t *testing.T) {
	n, err := Open(t.Context(), Config{
		Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: Off, Kafka: Off, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	p := parking{n}
	if _, err := p.RetryEvents(t.Context(), "shop-redis", eventstore.StreamID{}); !errors.Is(err, projections.ErrRebuilding) {
		t.Errorf("retry: %v", err)
	}
	if err := p.SkipEvent(t.Context(), "shop-redis", eventstore.Position{Incarnation: 1, LSN: 1}); !errors.Is(err, projections.ErrRebuilding) {
		t.Errorf("skip: %v", err)
	}
}

package node

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// What every site has to write is not homed: with it no site could bring to an end what it has begun. A list that is kept from before can
// be replaced.
func TestHomedIsRefusedOfWhatEverySiteWrites(t *testing.T) {
	config := Config{
		Data: filepath.Join(t.TempDir(), "data"), Site: "bj", Redis: Embedded, Kafka: Off, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	}
	for category, why := range map[string]string{
		"inventory": "rights", "payment": "moves its money", "checkout": "sagas", "checkout.bj": "sagas", "returns.bj": "sagas",
	} {
		config.Homed = []string{"order", category}
		_, err := Open(t.Context(), config)
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "--homed "+category+":") || !strings.Contains(err.Error(), why) ||
			strings.Contains(err.Error(), "--homed order") {
			t.Errorf("--homed %s: %v; want it refused, with %q", category, err, why)
		}
	}
	config.Homed = []string{"cart", "order", "profile", "ledger"}
	n, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

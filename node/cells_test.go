package node

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// What every site has to write is not homed: with it no site could bring to an end what it has begun. A list that a folder has from before
// is refused too, until it is replaced; the folder can be looked at meanwhile. Nobody is asked to let such a site in.
func TestHomedIsRefusedOfWhatEverySiteWrites(t *testing.T) {
	config := Config{
		Data: filepath.Join(t.TempDir(), "data"), Site: "bj", Redis: Embedded, Kafka: Off, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	}
	for category, why := range map[string]string{
		"inventory": "rights", "payment": "moves its money", "checkout": "sagas", "checkout.bj": "sagas", "returns.sh": "sagas",
	} {
		config.Homed = []string{"order", category}
		_, err := Open(t.Context(), config)
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "--homed "+category+":") || !strings.Contains(err.Error(), why) ||
			strings.Contains(err.Error(), "--homed order") {
			t.Errorf("--homed %s: %v; want it refused, with %q", category, err, why)
		}
	}
	joins := config
	joins.Homed, joins.Join, joins.Kafka, joins.GRPC = []string{"payment"}, "127.0.0.1:1", Embedded, "127.0.0.1:2" // nobody is there
	joins.Data, joins.KafkaPort = filepath.Join(t.TempDir(), "joins"), 3
	if _, err := Open(t.Context(), joins); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "--homed payment:") {
		t.Errorf("a site that joins with --homed payment: %v; want it refused before it has asked", err)
	}
	kept := config
	kept.Homed = []string{"payment"}
	if err := kept.complete(); err != nil {
		t.Fatal(err)
	}
	if err := kept.save(); err != nil {
		t.Fatal(err)
	}
	config.Homed = nil
	if _, err := Open(t.Context(), config); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "--homed payment:") {
		t.Errorf("with --homed payment in the folder: %v; want it refused", err)
	}
	looks := config
	looks.Look = true
	n, err := Open(t.Context(), looks)
	if err != nil {
		t.Fatalf("the folder cannot be looked at: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	config.Homed = []string{"cart", "order", "profile", "voucher", "ledger"}
	var log strings.Builder
	config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if n, err = Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	// What no domain has and no stream is in may be misspelt.
	if got := log.String(); strings.Count(got, "misspelt") != 1 || !strings.Contains(got, "category=ledger") {
		t.Errorf("of the categories %q it is warned\n%s; want ledger alone", config.Homed, got)
	}
}

package node

import (
	"log/slog"
	"strings"
	"testing"

	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// A site whose disk has no room says that it takes no writes, and why, as one does that an operator has read-only: nobody gives it cells.
func TestAFullDiskIsReadOnly(t *testing.T) {
	config := Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Kafka: Off, ClickHouse: Off, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		least int64
		want  string
	}{{0, ""}, {1 << 60, "is full"}} {
		config.MinFreeBytes = c.least
		n, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		s, err := n.sites.service.GetSites(t.Context(), &sitesv1.GetSitesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if why := s.GetWritesRefused(); !strings.Contains(why, c.want) || (why == "") != (c.want == "") {
			t.Errorf("with at least %d bytes: it takes no writes for %q, want %q", c.least, why, c.want)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

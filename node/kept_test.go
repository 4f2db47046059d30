package node

import (
	"log/slog"
	"testing"
)

// Types that only Tributary writes are kept from appends through the store API, in streams of users too, and whatever the
// configuration lets be.
func TestSystemTypesAreKept(t *testing.T) {
	for _, raw := range []bool{false, true} {
		n, err := Open(t.Context(), Config{
			Data: t.TempDir(), Kafka: "off", ClickHouse: "off", HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Domains: []Domain{{Name: "none"}},
			RawAppends: raw, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		k := n.kept()
		for _, name := range []string{
			"tributary.receipt.v1", "tributary.schemas.v1", "group.created.v1", "group.checkpoint.v1", "group.reset.v1", "group.deleted.v1",
			"saga.checkpoint.v1", "subject.erased.v1", "keys.used.v1",
		} {
			if !k.Types[name] {
				t.Errorf("raw appends %v: events of type %s are taken", raw, name)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

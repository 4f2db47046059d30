package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

// A killed server comes back at its address, with its data.
func TestPostgresKilledAndRestarted(t *testing.T) {
	srv := testenv.Postgres(t)
	control, addr := filepath.Join(srv.Dir(), "data", "global", "pg_control"), srv.Addr()
	before, err := os.Stat(control)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		srv.Kill()
		if err := srv.Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := os.Stat(control); err != nil || !os.SameFile(before, after) || srv.Addr() != addr {
		t.Errorf("after two kills the cluster at %s is another one: %v", srv.Addr(), err)
	}
	if engine.Lookup("postgres") == nil {
		t.Error("the catalogue does not know PostgreSQL")
	}
}

package pgsync_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/replication/pgsync"
)

// follow calls Sync as an orchestrator does, from a time on, until something holds.
func follow(t *testing.T, s *pgsync.Syncer, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = s.Sync(ctx, time.Now().UnixNano()) // what it lacks is seen in what does not come
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	eventually(t, what, holds)
	cancel()
	<-ended
}

// syncOnce calls Sync until it ends with another error than that the slot is in use still.
func syncOnce(ctx context.Context, s *pgsync.Syncer) error {
	for {
		if err := s.Sync(ctx, time.Now().UnixNano()); !errors.Is(err, eventstore.ErrUnavailable) {
			return err
		}
	}
}

// has reports whether so many rows of a table have come.
func (g *target) has(t *testing.T, table string, rows int) func() bool {
	return func() bool {
		n := 0
		for _, changes := range g.changes(t) {
			if changes[0].Table == table {
				n++
			}
		}
		return n == rows
	}
}

// existing counts the changes that are of rows which were read.
func (g *target) existing(t *testing.T) (n int) {
	for _, changes := range g.changes(t) {
		for _, c := range changes {
			if c.Kind == pgsync.Existing {
				n++
			}
		}
	}
	return n
}

// Reading the rows breaks off, at first and when a table is added: however that comes about, and although progress is kept from
// an earlier life of the slot, all rows come, and once they have, they are not read again. R9.
func TestRowsAreReadUntilAllAre(t *testing.T) {
	srv := testenv.Postgres(t, "-c", "wal_level=logical")
	exec(t, connect(t, srv), "CREATE TABLE users (id int PRIMARY KEY)", "INSERT INTO users SELECT generate_series(1, 50)",
		"CREATE TABLE teams (id int PRIMARY KEY)", "INSERT INTO teams SELECT generate_series(1, 50)")
	away := errors.New("the target is away")
	for name, end := range map[string]func(cancel func()){
		"target fails": func(func()) {},
		"context ends": func(cancel func()) { cancel() },
		"database dies": func(func()) {
			srv.Kill()
			if err := srv.Restart(context.Background()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := &target{store: memstore.New(memstore.Options{})}
			defer g.store.Close()
			breakOff := func(s *pgsync.Syncer) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var left atomic.Int32
				left.Store(20)
				g.mu.Lock()
				g.fail = func() error {
					if left.Add(-1) > 0 {
						return nil
					}
					end(cancel)
					return away
				}
				g.mu.Unlock()
				if err := syncOnce(ctx, s); !errors.Is(err, away) && !errors.Is(err, context.Canceled) {
					t.Fatalf("reading the rows ended with %v", err)
				}
				g.mu.Lock()
				g.fail = nil
				g.mu.Unlock()
			}
			one := newSyncer(t, srv, g, "users")
			breakOff(one)
			follow(t, one, "all users have come", g.has(t, "users", 50))
			follow(t, one, "the users have been read", func() bool { healthy, _ := one.HealthCheck(); return healthy })
			both := newSyncer(t, srv, g, "users", "teams")
			breakOff(both)
			follow(t, both, "all teams have come", g.has(t, "teams", 50))
			follow(t, both, "the rows have been read", func() bool { healthy, _ := both.HealthCheck(); return healthy })

			before := g.existing(t)
			conn := connect(t, srv)
			exec(t, conn, "INSERT INTO users VALUES (0)")
			follow(t, both, "the next user has come", g.has(t, "users", 51))
			if n := g.existing(t); n != before {
				t.Errorf("%d rows were read again, although all were brought over", n-before)
			}
			one = newSyncer(t, srv, g, "users") // a table less
			exec(t, conn, "DELETE FROM users WHERE id = 0", "INSERT INTO users VALUES (51)")
			follow(t, one, "the last user has come", g.has(t, "users", 52))
			if n := g.existing(t); n != before {
				t.Errorf("%d rows were read again when a table was left out", n-before)
			}
			exec(t, conn, "DELETE FROM users WHERE id > 50")
			if err := one.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A slot is lost, and meanwhile a row becomes again what it was when it was first read: that is told.
func TestRowThatIsAgainWhatItWas(t *testing.T) {
	srv := testenv.Postgres(t, "-c", "wal_level=logical")
	conn := connect(t, srv)
	exec(t, conn, "CREATE TABLE users (id int PRIMARY KEY, name text)", "INSERT INTO users VALUES (1, 'ann')")
	g := &target{store: memstore.New(memstore.Options{})}
	defer g.store.Close()
	s := newSyncer(t, srv, g, "users")
	names := func() (names []string) {
		for _, c := range g.changes(t)["users/1"] {
			name, _ := c.New.Get("name") // empty shows
			names = append(names, name)
		}
		return names
	}
	come := func(want ...string) func() bool {
		return func() bool { return fmt.Sprint(names()) == fmt.Sprint(want) }
	}
	follow(t, s, "ann has come", func() bool { healthy, _ := s.HealthCheck(); return healthy && come("ann")() })
	exec(t, conn, "UPDATE users SET name = 'bob'")
	follow(t, s, "bob has come", come("ann", "bob"))
	eventually(t, "the slot is lost", func() bool {
		_, err := conn.Exec(t.Context(), "SELECT pg_drop_replication_slot('tributary')")
		return err == nil // it is in use until the server has noticed that the syncer is gone
	})
	exec(t, conn, "UPDATE users SET name = 'ann'")
	follow(t, s, "ann has come once more", come("ann", "bob", "ann"))
}

// Rows that say the same, of a table without a key, are each told.
func TestRowsThatSayTheSame(t *testing.T) {
	srv := testenv.Postgres(t, "-c", "wal_level=logical")
	exec(t, connect(t, srv), "CREATE TABLE notes (text text)", "ALTER TABLE notes REPLICA IDENTITY FULL",
		"INSERT INTO notes SELECT 'same' FROM generate_series(1, 3)")
	g := &target{store: memstore.New(memstore.Options{})}
	defer g.store.Close()
	follow(t, newSyncer(t, srv, g, "notes"), "each has come", func() bool { return g.existing(t) == 3 })
}

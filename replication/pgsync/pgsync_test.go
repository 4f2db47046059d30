package pgsync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/pgsync"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, srv *engine.Postgres) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), srv.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// target appends each change once, as an event of the stream of its row.
type target struct {
	store *memstore.Store
	mu    sync.Mutex
	fail  func() error // asked before each change
}

func (g *target) apply(ctx context.Context, changes []pgsync.Change) error {
	for _, c := range changes {
		g.mu.Lock()
		fail := g.fail
		g.mu.Unlock()
		if fail != nil {
			if err := fail(); err != nil {
				return err
			}
		}
		payload, err := json.Marshal(c)
		if err != nil {
			return err
		}
		key := strings.Join(append([]string{c.Table}, c.KeyOf()...), "/")
		if _, err = g.store.Append(ctx, eventstore.Request{ID: c.ID, Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("row", key),
			Events: []eventstore.Event{{Type: "row.changed.v1", Encoding: eventstore.JSON, Payload: payload}},
		}}}); err != nil {
			return err
		}
	}
	return nil
}

// changes returns all that was applied, by stream.
func (g *target) changes(t *testing.T) map[string][]pgsync.Change {
	t.Helper()
	all := map[string][]pgsync.Change{}
	for e, err := range g.store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		var c pgsync.Change
		if err := json.Unmarshal(e.Payload, &c); err != nil {
			t.Fatal(err)
		}
		all[e.Stream.ID] = append(all[e.Stream.ID], c)
	}
	return all
}

func newSyncer(t *testing.T, srv *engine.Postgres, g *target, tables ...string) *pgsync.Syncer {
	t.Helper()
	s, err := pgsync.New(pgsync.Options{
		URL: srv.URL("postgres"), Tables: tables, Apply: g.apply, MaxChanges: 7, StatusInterval: 20 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// progress keeps progress in memory.
type progress struct {
	mu sync.Mutex
	at map[string]int64
}

func (p *progress) Load(name string) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[name], nil
}

func (p *progress) Save(name string, fromTS int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[name] = fromTS
	return nil
}

// Tables are followed while they are written to, through stopped syncers, failing targets and a killed database: every change
// that was committed arrives, once and in its order, and nothing that was rolled back. R9.
func TestEveryChangeOnceThroughRestarts(t *testing.T) {
	srv := testenv.Postgres(t, "-c", "wal_level=logical")
	conn := connect(t, srv)
	exec(t, conn,
		"CREATE TABLE users (id int PRIMARY KEY, name text, rev int NOT NULL)",
		"CREATE SCHEMA shop", "CREATE TABLE shop.items (sku text, place text, rev int NOT NULL, PRIMARY KEY (place, sku))",
		"INSERT INTO users SELECT n, 'user ' || n, 1 FROM generate_series(1, 40) n",
		"INSERT INTO shop.items SELECT 'sku-' || n, 'bj', 1 FROM generate_series(1, 10) n",
	)
	g := &target{store: memstore.New(memstore.Options{})}
	defer g.store.Close()
	var trouble atomic.Bool
	g.fail = func() error {
		if trouble.Load() && rand.IntN(40) == 0 {
			return errors.New("the target is away")
		}
		return nil
	}
	kept := &progress{at: map[string]int64{}}
	var o *replication.SyncOrchestrator
	follow := func() (stop func()) {
		o = replication.NewSyncOrchestrator(replication.OrchestratorOptions{
			Interval: 5 * time.Millisecond, Backoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
			Progress: kept, Log: slog.New(slog.DiscardHandler),
		})
		if err := o.Add("user-sync", newSyncer(t, srv, g, "users", "shop.items")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = o.Run(ctx) }) // ends with ctx's error
		return func() { cancel(); running.Wait() }
	}
	trouble.Store(true)
	stop := follow()

	// One writer, who knows what is committed: revisions of each row rise by one.
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	rev := map[int]int{}
	for i := range 40 {
		rev[i+1] = 1
	}
	next, deleted := 41, map[int]int{}
	write := func() error {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			return err
		}
		changed := map[int]int{}
		for range 1 + random.IntN(12) {
			id := 1 + random.IntN(next-1)
			at, touched := changed[id]
			if !touched {
				at = rev[id]
			}
			switch {
			case at == 0 || random.IntN(10) == 0:
				if _, err := tx.Exec(t.Context(), "INSERT INTO users VALUES ($1, $2, 1)", next, strings.Repeat("x", random.IntN(20))); err != nil {
					return err
				}
				changed[next] = 1
				next++
			case at > 0 && random.IntN(15) == 0:
				if _, err := tx.Exec(t.Context(), "DELETE FROM users WHERE id = $1", id); err != nil {
					return err
				}
				changed[id] = -at
			case at > 0:
				if _, err := tx.Exec(t.Context(), "UPDATE users SET rev = rev + 1 WHERE id = $1", id); err != nil {
					return err
				}
				changed[id] = at + 1
			}
		}
		if random.IntN(5) == 0 {
			return tx.Rollback(t.Context())
		}
		if err := tx.Commit(t.Context()); err != nil {
			return err
		}
		for id, at := range changed {
			if at < 0 {
				deleted[id], at = -at, 0
			}
			rev[id] = at
		}
		return nil
	}
	for round := range 4 {
		for range 60 {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
		switch round {
		case 0:
			eventually(t, "the rows that were there have come", func() bool { return len(g.changes(t)) >= 40 })
			stop()
			stop = follow()
		case 1:
			srv.Kill()
			if err := srv.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			conn = connect(t, srv)
		case 2:
			stop() // what happens meanwhile waits in the slot
		case 3:
			stop = follow()
		}
	}
	trouble.Store(false)
	exec(t, conn, "UPDATE shop.items SET place = 'sh' WHERE sku = 'sku-1'", "TRUNCATE shop.items", "INSERT INTO users VALUES (0, 'last', 1)")
	eventually(t, "the last change has come", func() bool { return len(g.changes(t)["users/0"]) > 0 })
	eventually(t, "the rows that were there have all been read", func() bool { return o.Status()[0].Healthy })
	stop()

	ids, all := map[string]bool{}, g.changes(t)
	for stream, changes := range all {
		for _, c := range changes {
			if ids[c.ID] {
				t.Errorf("change %s was applied twice", c.ID)
			}
			ids[c.ID] = true
		}
		id, err := strconv.Atoi(strings.TrimPrefix(stream, "users/"))
		if err != nil {
			continue
		}
		at, want := 0, rev[id]
		for i, c := range changes {
			if c.Kind == pgsync.Delete {
				// Of a row that was not read before it went, that is all there is.
				if i != len(changes)-1 || i > 0 && at != deleted[id] {
					t.Errorf("%s was deleted after revision %d, want after %d, the last", stream, at, deleted[id])
				}
				at = 0
				continue
			}
			text, _ := c.New.Get("rev")
			got, err := strconv.Atoi(text)
			// A row is read again where it was not known whether all were, after what the slot has up to there.
			follows := got == at+1 || c.Kind == pgsync.Existing && got == at
			if err != nil || i > 0 && !follows || c.Kind == pgsync.Insert && got != 1 {
				t.Errorf("%s: change %d is %s to revision %q, after %d", stream, i, c.Kind, text, at)
			}
			at = got
		}
		if id > 0 && at != want {
			t.Errorf("%s ends at revision %d, and the table at %d", stream, at, want)
		}
	}
	for id, at := range rev {
		if at > 0 && len(all[fmt.Sprintf("users/%d", id)]) == 0 {
			t.Errorf("user %d is in the table, and nothing of it has come", id)
		}
	}
	moved := all["items/sku-1/sh"]
	if len(moved) != 1 || moved[0].Kind != pgsync.Update || !cmp.Equal(moved[0].Old, pgsync.Row{
		{Name: "sku", Type: 25, Value: "sku-1"}, {Name: "place", Type: 25, Value: "bj"},
	}) {
		t.Errorf("the item that moved: %+v", moved)
	}
	if cut := all["items"]; len(cut) != 1 || cut[0].Kind != pgsync.Truncate || cut[0].New != nil {
		t.Errorf("the truncation: %+v", cut)
	}
	if err := newSyncer(t, srv, g, "users").Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var slots int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots").Scan(&slots); err != nil || slots != 0 {
		t.Errorf("%d slots are left, %v", slots, err)
	}
	t.Logf("%d changes of %d rows", len(ids), len(all))
}

// What the database or the options lack is said before anything is made.
func TestWhatIsMissingIsSaid(t *testing.T) {
	_, err := pgsync.New(pgsync.Options{URL: "postgres://u:secret@host:bad/db", Tables: []string{"a", "public.a", `x"y`}, Slot: "No"})
	if !errors.Is(err, eventstore.ErrInvalid) || strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("wrong options: %v", err)
	}
	for _, part := range []string{"URL", "twice", `"x\"y"`, `slot "No"`, "Apply"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("wrong options: %v, want %s to be named", err, part)
		}
	}
	g := &target{store: memstore.New(memstore.Options{})}
	defer g.store.Close()
	srv := testenv.Postgres(t)
	if err := newSyncer(t, srv, g, "users").Sync(t.Context(), 0); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "wal_level") {
		t.Errorf("a server without logical decoding: %v", err)
	}
	logical := testenv.Postgres(t, "-c", "wal_level=logical")
	exec(t, connect(t, logical), "CREATE TABLE keyless (a int)")
	err = newSyncer(t, logical, g, "users", "keyless").Sync(t.Context(), 0)
	for _, part := range []string{"no table public.users", "public.keyless has no primary key"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("tables that cannot be followed: %v, want %q in it", err, part)
		}
	}
	if healthy, _ := newSyncer(t, logical, g, "users").HealthCheck(); healthy {
		t.Error("a syncer that does not run is healthy")
	}
}

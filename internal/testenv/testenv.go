// Package testenv gives tests real servers: ClickHouse, Redis and Kafka as child processes on free loopback ports, each
// with a folder of its own, gone when the test is. What has not been fetched yet is fetched at first use and kept in
// the user's cache.
//
//	srv := testenv.Redis(t)             // fresh, for this test alone
//	srv := testenv.SharedRedis(t)       // one for all tests of the binary; needs testenv.Main in TestMain
//	srv.Kill(); srv.Restart(ctx)        // faults: see the methods of engine.Redis, engine.Kafka, engine.ClickHouse
//	link := testenv.Proxy(t, srv.Addr()) // faults of the network in between
//
// Servers of different tests and of test binaries that run at the same time do not disturb each other. Where a
// runtime is missing (no Java, say), Missing skips the test with one loud line, or fails it if CI=true.
package testenv

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/cable"
	"github.com/tributary-es/tributary/internal/engine"
)

// patience bounds a fetch and a start together, and each start again: it only decides how long a failure takes.
const patience = 8 * time.Minute

// Missing ends the test because what (a server or a runtime) is not to be had here; hint says how to get it.
//
// It skips the test, says so on stderr, and adds the line to the file that TRIBUTARY_SKIPS names, so that a runner can
// show at the end what was left out. Under CI=true it fails the test: there, nothing may be left out.
func Missing(t testing.TB, what, hint string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI=true forbids skipping: %s", what, hint)
	}
	Skip(t, fmt.Sprintf("%s is missing: %s", what, hint))
}

// Skip is Missing for what need not be there under CI=true either.
func Skip(t testing.TB, why string) {
	t.Helper()
	line := fmt.Sprintf("SKIPPED %s: %s", t.Name(), why)
	fmt.Fprintln(os.Stderr, line)
	if path := os.Getenv("TRIBUTARY_SKIPS"); path != "" {
		if err := appendLine(path, line); err != nil {
			t.Errorf("note the skipped test: %v", err)
		}
	}
	t.Skip(line)
}

func appendLine(path, line string) (err error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	_, err = f.WriteString(line + "\n")
	return err
}

// Ensure sees to it that the engine ("clickhouse", "redis", "kafka") is in the cache and can run, and returns the cache
// folder. It fetches the engine if it must, and ends the test through Missing if it cannot.
func Ensure(t testing.TB, name string) (cache string) {
	t.Helper()
	pkg := engine.Lookup(name)
	if pkg == nil {
		t.Fatalf("testenv: there is no engine named %q", name)
	}
	cache, err := engine.CacheDir()
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := pkg.Fetch(ctx, cache, engine.FetchOptions{Out: os.Stderr}); err != nil {
		if status, missing := engine.IsMissing(err); missing {
			Missing(t, pkg.Title, status.Hint)
		}
		t.Fatalf("testenv: %v", err)
	}
	return cache
}

// ClickHouse starts a fresh ClickHouse for this test. It is not restarted when it dies: Restart does that.
func ClickHouse(t testing.TB) *engine.ClickHouse {
	t.Helper()
	return fresh(t, "clickhouse", startClickHouse)
}

// Redis starts a fresh Redis for this test. A restarted one is empty.
func Redis(t testing.TB) *engine.Redis {
	t.Helper()
	return fresh(t, "redis", startRedis)
}

// Kafka starts a fresh Kafka for this test. A restarted one has its data.
func Kafka(t testing.TB) *engine.Kafka {
	t.Helper()
	return fresh(t, "kafka", startKafka)
}

// Postgres starts a fresh PostgreSQL for this test, with further arguments of postgres. A restarted one has its data.
func Postgres(t testing.TB, args ...string) *engine.Postgres {
	t.Helper()
	// It may run under another account, which cannot enter a TempDir.
	dir, err := os.MkdirTemp("", "tributary-postgres-")
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("testenv: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	return fresh(t, "postgres", func(ctx context.Context, _, cache string) (*engine.Postgres, error) {
		return engine.StartPostgres(ctx, engine.PostgresOptions{Dir: filepath.Join(dir, "server"), Cache: cache, Args: args, StartTimeout: patience})
	})
}

// KafkaWith starts a fresh Kafka with options of the test's own; Dir and Cache are filled in where empty.
func KafkaWith(t testing.TB, opts engine.KafkaOptions) *engine.Kafka {
	t.Helper()
	return fresh(t, "kafka", func(ctx context.Context, dir, cache string) (*engine.Kafka, error) {
		if opts.Dir == "" {
			opts.Dir = dir
		}
		opts.Cache, opts.StartTimeout = cache, cmp.Or(opts.StartTimeout, patience)
		return engine.StartKafka(ctx, opts)
	})
}

// RedisWith starts a fresh Redis with options of the test's own; Dir and Cache are filled in where empty.
func RedisWith(t testing.TB, opts engine.RedisOptions) *engine.Redis {
	t.Helper()
	return fresh(t, "redis", func(ctx context.Context, dir, cache string) (*engine.Redis, error) {
		if opts.Dir == "" {
			opts.Dir = dir
		}
		opts.Cache, opts.StartTimeout = cache, cmp.Or(opts.StartTimeout, patience)
		return engine.StartRedis(ctx, opts)
	})
}

// SharedClickHouse returns the ClickHouse that the tests of this binary share. A test keeps to a database of its own,
// see Unique, and does not kill it.
func SharedClickHouse(t testing.TB) *engine.ClickHouse {
	t.Helper()
	return sharedClickHouse.get(t, "clickhouse", startClickHouse)
}

// SharedRedis returns the Redis that the tests of this binary share. A test keeps to keys of its own and does not flush.
func SharedRedis(t testing.TB) *engine.Redis {
	t.Helper()
	return sharedRedis.get(t, "redis", startRedis)
}

// SharedKafka returns the Kafka that the tests of this binary share. A test keeps to topics and groups of its own.
func SharedKafka(t testing.TB) *engine.Kafka {
	t.Helper()
	return sharedKafka.get(t, "kafka", startKafka)
}

func startClickHouse(ctx context.Context, dir, cache string) (*engine.ClickHouse, error) {
	return engine.StartClickHouse(ctx, engine.ClickHouseOptions{Dir: dir, Cache: cache, StartTimeout: patience})
}

func startRedis(ctx context.Context, dir, cache string) (*engine.Redis, error) {
	return engine.StartRedis(ctx, engine.RedisOptions{Dir: dir, Cache: cache, StartTimeout: patience})
}

func startKafka(ctx context.Context, dir, cache string) (*engine.Kafka, error) {
	return engine.StartKafka(ctx, engine.KafkaOptions{Dir: dir, Cache: cache, StartTimeout: patience})
}

// server is what fresh and shared need of a started server.
type server interface {
	comparable
	Kill()
	Close() error
}

type starter[S server] func(ctx context.Context, dir, cache string) (S, error)

// fresh starts a server that ends with the test.
func fresh[S server](t testing.TB, name string, start starter[S]) S {
	t.Helper()
	cache := Ensure(t, name)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// TempDir first: its cleanup then runs after the server is gone.
	srv, err := start(ctx, t.TempDir(), cache)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() { end(srv) })
	return srv
}

// end is quicker than a stop in good order, and its folder goes anyway.
func end[S server](srv S) {
	srv.Kill()
	_ = srv.Close()
}

// shared is a server for all tests of a binary.
type shared[S server] struct {
	mu  sync.Mutex // guards the fields below, and is held while the server starts
	srv S
	err error
}

var (
	sharedClickHouse shared[*engine.ClickHouse]
	sharedRedis      shared[*engine.Redis]
	sharedKafka      shared[*engine.Kafka]

	sharedRoot folder
)

func (s *shared[S]) get(t testing.TB, name string, start starter[S]) S {
	t.Helper()
	cache := Ensure(t, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	var none S
	if s.srv == none && s.err == nil {
		dir, err := sharedRoot.get()
		if err != nil {
			t.Fatalf("testenv: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.srv, s.err = start(ctx, filepath.Join(dir, name), cache)
	}
	if s.err != nil {
		t.Fatalf("testenv: %v", s.err)
	}
	return s.srv
}

func (s *shared[S]) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none S
	if s.srv != none {
		end(s.srv)
		s.srv = none
	}
}

// Main runs a package's tests, ends the shared servers, makes the last checks (for leaked goroutines, say) and exits.
func Main(m *testing.M, checks ...func() error) {
	os.Exit(run(m, checks))
}

func run(m *testing.M, checks []func() error) int {
	if err := sharedRoot.open(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	code := m.Run()
	sharedClickHouse.end()
	sharedRedis.end()
	sharedKafka.end()
	if err := sharedRoot.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		code = 1
	}
	for _, check := range checks {
		if err := check(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, "after the tests:", err)
			code = 1
		}
	}
	return code
}

// Proxy starts a cable to target (host:port) that ends with the test.
func Proxy(t testing.TB, target string) *cable.Cable {
	t.Helper()
	c, err := cable.New(target)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Unique returns a short name in lower-case letters, digits and underscores, different at every call: for a database, a
// topic, a group or a key prefix of a test's own.
func Unique(t testing.TB) string {
	t.Helper()
	return "t" + strings.ToLower(rand.Text()[:10])
}

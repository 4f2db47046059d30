package engine_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

// ask runs one statement over HTTP as the given user. answer is the body, whether it went well or not.
func ask(t *testing.T, c *engine.ClickHouse, user, password, sql string, settings ...string) (answer string, ok bool) {
	t.Helper()
	url := "http://" + c.HTTPAddr() + "/?" + strings.Join(settings, "&")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(string(body)), res.StatusCode == http.StatusOK
}

// query runs one statement as the application's user and fails the test unless it succeeds.
func query(t *testing.T, c *engine.ClickHouse, sql string, settings ...string) string {
	t.Helper()
	answer, ok := ask(t, c, c.User(), c.Password(), sql, settings...)
	if !ok {
		t.Fatalf("%s: %s", sql, answer)
	}
	return answer
}

// TestClickHouseFeatures is the contract with the pinned engine: what the analytics schema is built on.
func TestClickHouseFeatures(t *testing.T) {
	c := testenv.ClickHouse(t)
	const exact = "non_replicated_deduplication_window = 100"
	steps := []struct{ sql, want string }{
		{"SELECT splitByChar('.', version())[1] || '.' || splitByChar('.', version())[2]", "26.9"},
		{"CREATE DATABASE tributary", ""},
		{"SELECT engine FROM system.databases WHERE name = 'tributary'", "Atomic"},

		{"CREATE TABLE tributary.rows (n UInt64, s LowCardinality(String), d Decimal(38, 3), at DateTime64(3)) " +
			"ENGINE = MergeTree ORDER BY n SETTINGS " + exact, ""},
		{"INSERT INTO tributary.rows VALUES (1, 'a', 1.005, '2010-12-01 08:26:00.000')", ""},
		{"INSERT INTO tributary.rows VALUES (1, 'a', 1.005, '2010-12-01 08:26:00.000')", ""}, // the same block again
		{"INSERT INTO tributary.rows SETTINGS insert_deduplication_token = 'x' VALUES (2, 'b', 2.5, 0)", ""},
		{"INSERT INTO tributary.rows SETTINGS insert_deduplication_token = 'x' VALUES (3, 'c', 9.9, 0)", ""}, // the same token
		{"SELECT n, s, d FROM tributary.rows ORDER BY n", "1\ta\t1.005\n2\tb\t2.5"},

		{"CREATE TABLE tributary.latest (k String, v UInt64, ver UInt64) ENGINE = ReplacingMergeTree(ver) ORDER BY k", ""},
		{"INSERT INTO tributary.latest VALUES ('k', 1, 1)", ""},
		{"INSERT INTO tributary.latest VALUES ('k', 2, 2)", ""},
		{"SELECT v FROM tributary.latest FINAL", "2"},

		{"CREATE TABLE tributary.sums (m Date, total AggregateFunction(sum, Decimal(38, 3))) ENGINE = AggregatingMergeTree ORDER BY m", ""},
		{"CREATE MATERIALIZED VIEW tributary.feed TO tributary.sums AS SELECT toStartOfMonth(at) AS m, sumState(d) AS total FROM tributary.rows GROUP BY m", ""},
		{"INSERT INTO tributary.rows VALUES (4, 'd', 0.125, '2011-01-04 10:00:00.000'), (5, 'd', 0.125, '2011-01-05 10:00:00.000')", ""},
		{"SELECT m, sumMerge(total) FROM tributary.sums GROUP BY m", "2011-01-01\t0.25"},

		{"INSERT INTO tributary.latest SETTINGS async_insert = 1, wait_for_async_insert = 1 VALUES ('a', 7, 1)", ""},
		{"SELECT v FROM tributary.latest FINAL WHERE k = 'a'", "7"},
		{"SELECT k, sum(v) OVER (ORDER BY k) FROM tributary.latest FINAL ORDER BY k", "a\t7\nk\t9"},
		{"SELECT CAST('{\"a\": {\"b\": 5}}' AS JSON).a.b::UInt64", "5"},

		{"DELETE FROM tributary.rows WHERE n = 5", ""},
		{"SELECT count() FROM tributary.rows", "3"},
		{"CREATE TABLE tributary.other AS tributary.rows", ""},
		{"EXCHANGE TABLES tributary.rows AND tributary.other", ""},
		{"SELECT count() FROM tributary.rows", "0"},
		{"TRUNCATE TABLE tributary.other", ""},
		{"DROP DATABASE tributary SYNC", ""},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, query(t, c, step.sql)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.sql, diff)
		}
	}
}

func TestClickHouseUsersMayOnlyDoWhatTheyMust(t *testing.T) {
	c := testenv.ClickHouse(t)
	query(t, c, "CREATE DATABASE tributary")
	query(t, c, "CREATE TABLE tributary.t ENGINE = MergeTree ORDER BY n AS SELECT number AS n FROM numbers(10)")
	refused := []struct{ name, user, password, sql string }{
		{"wrong password", c.User(), "guess", "SELECT 1"},
		{"a file of the machine", c.User(), c.Password(), "SELECT * FROM file('/etc/hostname', 'LineAsString')"},
		{"a URL", c.User(), c.Password(), "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 's String')"},
		{"writing a file", c.User(), c.Password(), "INSERT INTO FUNCTION file('x', 'TSV', 'n UInt8') VALUES (1)"},
		{"another server", c.User(), c.Password(), "SELECT * FROM remote('127.0.0.1:1', system.one)"},
		{"the engine's own user makes a database", "default", "", "CREATE DATABASE mine"},
		{"the engine's own user reads a table", "default", "", "SELECT * FROM tributary.t"},
		{"the engine's own user takes all memory", "default", "", "SELECT groupArray(number) FROM system.numbers SETTINGS max_memory_usage = 0"},
		{"the engine's own user ends the engine", "default", "", "SYSTEM SHUTDOWN"},
	}
	for _, test := range refused {
		if answer, ok := ask(t, c, test.user, test.password, test.sql); ok {
			t.Errorf("%s: allowed, gave %q", test.name, answer)
		} else if !strings.Contains(answer, "ACCESS_DENIED") && !strings.Contains(answer, "SETTING_CONSTRAINT_VIOLATION") && !strings.Contains(answer, "AUTHENTICATION_FAILED") {
			t.Errorf("%s: refused for another reason: %s", test.name, answer)
		}
	}
}

func TestClickHouseRefusesAQueryBeyondItsMemoryAndLivesOn(t *testing.T) {
	c, err := engine.StartClickHouse(t.Context(), engine.ClickHouseOptions{
		Dir: t.TempDir(), Cache: testenv.Ensure(t, "clickhouse"), MaxMemory: 700_000_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pid := c.PID()
	answer, ok := ask(t, c, c.User(), c.Password(), "SELECT length(groupArray(number)) FROM numbers(1000000000)")
	if ok || !strings.Contains(answer, "MEMORY_LIMIT_EXCEEDED") {
		t.Errorf("gave %q", answer)
	}
	if query(t, c, "SELECT 1") != "1" || c.PID() != pid {
		t.Error("the engine did not live on")
	}
}

func TestClickHouseLogHoldsNoQueries(t *testing.T) {
	c := testenv.ClickHouse(t)
	query(t, c, "SELECT 'somebody@example.org'")
	if answer, ok := ask(t, c, c.User(), c.Password(), "SELECT 'somebody@example.org' FROM nowhere"); ok {
		t.Fatalf("a wrong query gave %q", answer)
	}
	c.Stop()
	if log, err := os.ReadFile(filepath.Join(c.Dir(), "log")); err != nil || len(log) != 0 {
		t.Errorf("the log says, after nothing but queries (%v): %s", err, log)
	}
}

func TestClickHouseLeavesWhenItsStdinCloses(t *testing.T) {
	c := testenv.ClickHouse(t)
	if err := c.LeaveAtEOF(); err != nil {
		t.Errorf("the child ended with %v, want exit code 0", err)
	}
	if c.PID() != 0 {
		t.Error("the child still runs")
	}
}

func TestClickHouseKeepsPasswordAndPortsOverRestarts(t *testing.T) {
	dir, cache := t.TempDir(), testenv.Ensure(t, "clickhouse")
	var passwords, addrs [2]string
	for life := range 2 {
		c, err := engine.StartClickHouse(t.Context(), engine.ClickHouseOptions{Dir: dir, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		passwords[life], addrs[life] = c.Password(), c.TCPAddr()+" "+c.HTTPAddr()
		query(t, c, "SELECT 1")
		for range 2 {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Restart(t.Context()); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("Restart after Close gave %v, want ErrClosed", err)
		}
	}
	if passwords[0] != passwords[1] || len(passwords[0]) < 20 {
		t.Errorf("passwords %q", passwords)
	}
	if addrs[0] != addrs[1] {
		t.Errorf("addresses %q", addrs)
	}
	for _, name := range []string{"password", "users.xml"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others: %v", name, info.Mode())
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "users.xml")); err != nil || strings.Contains(string(text), passwords[0]) {
		t.Errorf("users.xml holds the password in clear (%v)", err)
	}
}

func TestClickHouseTakesAnotherPortWhenItsOwnIsTaken(t *testing.T) {
	c := testenv.ClickHouse(t)
	taken, other := c.TCPAddr(), c.HTTPAddr()
	c.Stop()
	squatter, err := net.Listen("tcp4", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.TCPAddr() == taken {
		t.Error("it says to be where somebody else listens")
	}
	if c.HTTPAddr() != other {
		t.Errorf("the port that was free changed from %s to %s", other, c.HTTPAddr())
	}
	query(t, c, "SELECT 1")
}

// ups is a log handler that tells when an engine has come up.
type ups chan struct{}

func (u ups) Enabled(context.Context, slog.Level) bool { return true }
func (u ups) WithAttrs([]slog.Attr) slog.Handler       { return u }
func (u ups) WithGroup(string) slog.Handler            { return u }
func (u ups) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "engine is up" {
		u <- struct{}{}
	}
	return nil
}

func TestRunReplacesAKilledEngineAndNotAStoppedOne(t *testing.T) {
	up := make(ups, 10)
	c, err := engine.StartClickHouse(t.Context(), engine.ClickHouseOptions{
		Dir: t.TempDir(), Cache: testenv.Ensure(t, "clickhouse"), Logger: slog.New(up),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-up
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()

	query(t, c, "CREATE DATABASE tributary")
	query(t, c, "CREATE TABLE tributary.t (n UInt64) ENGINE = MergeTree ORDER BY n")
	for life := range 3 {
		query(t, c, "INSERT INTO tributary.t SELECT number FROM numbers(1000)")
		was := c.PID()
		c.Kill()
		<-up
		if c.PID() == was || c.PID() == 0 {
			t.Fatalf("life %d: process %d came after %d", life, c.PID(), was)
		}
	}
	if got := query(t, c, "SELECT count() FROM tributary.t"); got != "3000" {
		t.Errorf("%s rows survived, want 3000", got)
	}

	c.Stop()
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	<-up
	if len(up) != 0 {
		t.Error("Run started an engine that had been stopped on purpose")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run gave %v", err)
	}
	if c.PID() != 0 {
		t.Error("the engine outlived Run")
	}
}

package clickview

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/projectiontest"
)

func TestMain(m *testing.M) { testenv.Main(m, func() error { return goleak.Find() }) }

// movements is the table of the conformance suite, with a view that sums it up and more than one partition.
var movements = fstest.MapFS{"0001_movements.sql": {Data: []byte(strings.ReplaceAll(`
CREATE TABLE IF NOT EXISTS {db}.$NAME
(
    position UInt64,
    row      UInt32,
    sign     Int8,
    stream   String,
    version  UInt64,
    amount   Int64,
    recorded DateTime64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY version % 3
ORDER BY (stream, version)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS {db}.balances
(
    stream String,
    amount Int64,
    lines  Int64
)
ENGINE = SummingMergeTree
ORDER BY stream
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.balances_of_movements TO {db}.balances AS
SELECT stream, sum(m.amount * m.sign) AS amount, sum(m.sign) AS lines FROM {db}.$NAME AS m GROUP BY stream;
`, "$NAME", projectiontest.Table))}}

// admin returns a connection for what a test does behind the views' backs.
func admin(t testing.TB, srv *engine.ClickHouse) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{srv.TCPAddr()}, Auth: clickhouse.Auth{Username: srv.User(), Password: srv.Password()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func mustExec(t testing.TB, conn driver.Conn, sql string, args ...any) {
	t.Helper()
	if err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// options returns those of a view over a server.
func options(srv *engine.ClickHouse, database string) Options {
	return Options{Addr: srv.TCPAddr(), User: srv.User(), Password: srv.Password(), Database: database}
}

func newView(t testing.TB, p projections.Projection[projections.Rows], o Options) *View {
	t.Helper()
	v, err := New(p, movements, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// crash returns a fault that comes at a point and stays.
func crash(at projectiontest.CrashPoint) func(op string, sent bool) error {
	var mu sync.Mutex
	step, dead := -1, false
	return func(_ string, sent bool) error {
		mu.Lock()
		defer mu.Unlock()
		if !sent {
			step++
		}
		if step > at.Step || step == at.Step && sent == at.Sent {
			dead = true
		}
		if dead {
			return projectiontest.ErrCrash
		}
		return nil
	}
}

func TestConformance(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	type projection = projections.Projection[projections.Rows]
	projectiontest.RunRows(t, func(t testing.TB) projectiontest.Storage[projections.Rows] {
		database := testenv.Unique(t)
		drop := func(t testing.TB) {
			mustExec(t, conn, "DROP DATABASE IF EXISTS "+database+" SYNC")
		}
		t.Cleanup(func() {
			drop(t)
			mustExec(t, conn, "DROP DATABASE IF EXISTS "+database+"__next SYNC")
		})
		return projectiontest.Storage[projections.Rows]{
			Sink: func(t testing.TB, p projection) projections.Sink { return newView(t, p, options(srv, database)) },
			Crashing: func(t testing.TB, p projection, at projectiontest.CrashPoint) projections.Sink {
				o := options(srv, database)
				o.fault = crash(at)
				return newView(t, p, o)
			},
			Lose: drop,
		}
	})
}

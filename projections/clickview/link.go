package clickview

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/projections"
)

// errGone: the server has no such database or table.
var errGone = errors.New("not there")

// link carries statements to the server. Every call is one step of its own, before and after which a test may crash.
type link struct {
	conn    driver.Conn
	timeout time.Duration
	fault   func(op string, sent bool) error
}

// dialTimeout bounds how long a server may take to greet.
const dialTimeout = 5 * time.Second

func dial(o *Options, conns int, greeting, readTimeout time.Duration) (driver.Conn, error) {
	opts := &clickhouse.Options{
		MaxCompressionBuffer: 1 << 20, // a connection keeps one for good
		Addr:                 []string{o.Addr},
		Auth:                 clickhouse.Auth{Username: o.User, Password: o.Password},
		TLS:                  o.TLS,
		Compression:          &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		DialTimeout:          greeting,
		ReadTimeout:          readTimeout,
		MaxOpenConns:         conns,
		MaxIdleConns:         conns,
	}
	if o.Dial != nil {
		opts.Addr = []string{"dialled"} // the driver wants one; it is only passed to DialContext
		opts.DialContext = func(ctx context.Context, _ string) (net.Conn, error) { return o.Dial(ctx) }
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("clickhouse options: %w", err)
	}
	return conn, nil
}

// step makes one call to the server.
func (l *link) step(ctx context.Context, op string, call func(ctx context.Context) error) error {
	if l.fault != nil {
		if err := l.fault(op, false); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := call(ctx); err != nil {
		return fmt.Errorf("%s: %w", op, classify(err))
	}
	if l.fault != nil {
		return l.fault(op, true)
	}
	return nil
}

// exec carries out a statement.
func (l *link) exec(ctx context.Context, op, sql string, args ...any) error {
	return l.step(ctx, op, func(ctx context.Context) error { return l.conn.Exec(ctx, sql, args...) })
}

// rows calls each for every row of a query's result.
func (l *link) rows(ctx context.Context, op, sql string, args []any, each func(driver.Rows) error) error {
	return l.step(ctx, op, func(ctx context.Context) error {
		return readRows(ctx, l.conn, sql, args, each)
	})
}

// stream is rows without a bound of time, for results that are long.
func (l *link) stream(ctx context.Context, op, sql string, args []any, each func(driver.Rows) error) error {
	if l.fault != nil {
		if err := l.fault(op, false); err != nil {
			return err
		}
	}
	if err := readRows(ctx, l.conn, sql, args, each); err != nil {
		return fmt.Errorf("%s: %w", op, classify(err))
	}
	return nil
}

func readRows(ctx context.Context, conn driver.Conn, sql string, args []any, each func(driver.Rows) error) error {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return local{err}
		}
	}
	return rows.Err()
}

// insert sends one block to a table, which the server takes once for each token, whatever becomes of the answer.
func (l *link) insert(ctx context.Context, op, table, token string, fill func(driver.Batch) error) error {
	return l.step(ctx, op, func(ctx context.Context) error {
		batch, err := l.prepare(ctx, table, token)
		if err != nil {
			return err
		}
		defer batch.Close()
		if err := fill(batch); err != nil {
			return local{err}
		}
		return batch.Send()
	})
}

// prepare begins an insert of one block. It holds a connection until the block is sent or closed.
func (l *link) prepare(ctx context.Context, table, token string) (driver.Batch, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"async_insert":               0,
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"max_partitions_per_insert_block":                    0,
		"materialized_views_ignore_errors":                   0,
	}))
	return l.conn.PrepareBatch(ctx, "INSERT INTO "+table)
}

// local is an error that did not come from the server.
type local struct{ error }

func (e local) Unwrap() error { return e.error }

// Codes of the server's exceptions, as in its system table of errors.
const (
	unknownTable    = 60
	unknownDatabase = 81
)

// passing are the codes of what goes away by itself: limits of time, memory, parts and connections, and a server that is
// going down.
var passing = []int32{
	159 /* TIMEOUT_EXCEEDED */, 160 /* TOO_SLOW */, 164 /* READONLY */, 202 /* TOO_MANY_SIMULTANEOUS_QUERIES */, 209, /* SOCKET_TIMEOUT */
	210 /* NETWORK_ERROR */, 236 /* ABORTED */, 241 /* MEMORY_LIMIT_EXCEEDED */, 243 /* NOT_ENOUGH_SPACE */, 252, /* TOO_MANY_PARTS */
	394 /* QUERY_WAS_CANCELLED */, 745, /* SERVER_OVERLOADED */
}

// classify says what an error means to those above: errGone, projections.ErrUnavailable, or nothing in particular.
func classify(err error) error {
	var mine local
	var exception *clickhouse.Exception
	switch {
	case errors.As(err, &mine):
		return mine.error
	case errors.As(err, &exception):
		switch {
		case exception.Code == unknownTable || exception.Code == unknownDatabase:
			return fmt.Errorf("%w: %w", errGone, err)
		case slices.Contains(passing, exception.Code):
			return fmt.Errorf("%w: %w", projections.ErrUnavailable, err)
		}
		return err
	case errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: %w", projections.ErrUnavailable, err)
}

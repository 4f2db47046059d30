package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var postgresKind = Kind{Name: "postgres", Check: "unique (stream, version), and the version before must be there", Start: startPostgres}

// postgresPeer is an events table with a unique key of stream and version.
type postgresPeer struct {
	server *child
	pool   *pgxpool.Pool
}

// postgresConnections is how many connections the clients share: more than the cores can serve only cost the server.
const postgresConnections = 64

func startPostgres(ctx context.Context, dir string) (Peer, string, error) {
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(programs) == 0 {
		return nil, "", missing("apt-get install postgresql")
	}
	bin := programs[len(programs)-1]
	data := filepath.Join(dir, "data")
	as, err := unprivileged(dir)
	if err != nil {
		return nil, "", err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "peer", "--auth", "trust", "--no-locale", "--encoding", "UTF8")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	server, err := startChild(ctx, dir, port, as, filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-k", "", "-c", "shared_buffers=512MB", "-c", "max_wal_size=8GB", "-c", "max_connections=100", "-c", "synchronous_commit=on")
	if err != nil {
		return nil, "", err
	}
	p := &postgresPeer{server: server}
	version, err := p.open(ctx, fmt.Sprintf("postgres://peer@%s/postgres?sslmode=disable&pool_max_conns=%d", loopback(port), postgresConnections))
	if err != nil {
		return nil, "", errors.Join(err, p.Close())
	}
	return p, version, nil
}

// unprivileged returns the account to run the server with, for it refuses to be root, and gives it the folder.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find an account for the server: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account.Username, err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, fmt.Errorf("give the folder to %s: %w", account.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (p *postgresPeer) open(ctx context.Context, url string) (version string, err error) {
	if p.pool, err = pgxpool.New(ctx, url); err != nil {
		return "", fmt.Errorf("connect to postgres: %w", err)
	}
	if err := p.awaitReady(ctx); err != nil {
		return "", err
	}
	if err := p.pool.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return "", fmt.Errorf("ask postgres for its version: %w", err)
	}
	version, _, _ = strings.Cut(version, " ")
	_, err = p.pool.Exec(ctx, `CREATE TABLE events (
		position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL,
		type text NOT NULL, payload bytea NOT NULL, UNIQUE (stream, version))`)
	if err != nil {
		return "", fmt.Errorf("make table: %w", err)
	}
	return version, nil
}

// awaitReady waits until the server takes connections: it listens before it does.
func (p *postgresPeer) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := p.pool.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const postgresAppend = `INSERT INTO events (stream, version, type, payload)
	SELECT $1, $2 + n, 'bench.happened.v1', payload FROM unnest($3::bytea[]) WITH ORDINALITY AS e(payload, n)
	WHERE $2 = 0 OR EXISTS (SELECT FROM events WHERE stream = $1 AND version = $2)`

func (p *postgresPeer) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	tag, err := p.pool.Exec(ctx, postgresAppend, stream, int64(at.Version), payloads)
	if err != nil {
		return at, fmt.Errorf("append to postgres: %w", err)
	}
	if tag.RowsAffected() != int64(len(payloads)) {
		return at, fmt.Errorf("append to postgres: stream %s is not at version %d", stream, at.Version)
	}
	at.Version += uint64(len(payloads))
	return at, nil
}

func (p *postgresPeer) Load(ctx context.Context, stream string) (int, error) {
	rows, err := p.pool.Query(ctx, "SELECT version, type, payload FROM events WHERE stream = $1 ORDER BY version", stream)
	return countRows(rows, err)
}

func (p *postgresPeer) ReadAll(ctx context.Context) (int, error) {
	rows, err := p.pool.Query(ctx, "SELECT version, type, payload FROM events ORDER BY position")
	return countRows(rows, err)
}

func countRows(rows pgx.Rows, err error) (int, error) {
	if err != nil {
		return 0, fmt.Errorf("read from postgres: %w", err)
	}
	var version int64
	var kind string
	var payload []byte
	n := 0
	for ; rows.Next(); n++ {
		if err := rows.Scan(&version, &kind, &payload); err != nil {
			return n, fmt.Errorf("read from postgres: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("read from postgres: %w", err)
	}
	return n, nil
}

func (p *postgresPeer) Close() error {
	if p.pool != nil {
		p.pool.Close()
	}
	return p.server.stop()
}

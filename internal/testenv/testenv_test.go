package testenv_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// query runs one statement over HTTP and fails the test unless it succeeds.
func query(t *testing.T, c *engine.ClickHouse, sql string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.HTTPAddr()+"/", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(c.User(), c.Password())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", sql, res.Status, body, err)
	}
	return strings.TrimSpace(string(body))
}

// reachable fails the test unless something accepts connections there.
func reachable(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	conn.Close()
}

func TestClickHouseKilledAndRestartedKeepsItsRows(t *testing.T) {
	c := testenv.ClickHouse(t)
	query(t, c, "CREATE DATABASE tributary")
	query(t, c, "CREATE TABLE tributary.t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100")
	query(t, c, "INSERT INTO tributary.t SELECT number FROM numbers(1000)")
	native, http := c.TCPAddr(), c.HTTPAddr()
	c.Kill()
	if err := c.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if c.TCPAddr() != native || c.HTTPAddr() != http {
		t.Errorf("addresses changed from %s, %s to %s, %s", native, http, c.TCPAddr(), c.HTTPAddr())
	}
	if got := query(t, c, "SELECT count(), sum(n) FROM tributary.t"); got != "1000\t499500" {
		t.Errorf("after kill -9 the table holds %q", got)
	}
}

func TestRedisKilledAndRestartedAnswersAtTheSameAddress(t *testing.T) {
	r := testenv.Redis(t)
	addr := r.Addr()
	reachable(t, addr)
	r.Kill()
	if err := r.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r.Addr() != addr {
		t.Errorf("address changed from %s to %s", addr, r.Addr())
	}
	reachable(t, addr)
}

func TestKafkaKilledAndRestartedAnswersAtTheSameAddress(t *testing.T) {
	k := testenv.Kafka(t)
	addr := k.Addr()
	reachable(t, addr)
	k.Kill()
	if err := k.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if k.Addr() != addr {
		t.Errorf("address changed from %s to %s", addr, k.Addr())
	}
	reachable(t, addr)
}

func TestSharedServersAreStartedOnce(t *testing.T) {
	if a, b := testenv.SharedRedis(t).PID(), testenv.SharedRedis(t).PID(); a != b || a == 0 {
		t.Errorf("two calls gave processes %d and %d", a, b)
	}
}

package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

// redisSays sends one inline command and returns the first line of the answer.
func redisSays(r *engine.Redis, command string, patience time.Duration) (string, error) {
	conn, err := net.DialTimeout("tcp4", r.Addr(), patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	answer := make([]byte, 256)
	n, err := conn.Read(answer)
	return strings.TrimSpace(string(answer[:n])), err
}

func TestAPausedServerAnswersNothingUntilItIsResumed(t *testing.T) {
	r := testenv.Redis(t)
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	if answer, err := redisSays(r, "PING", 200*time.Millisecond); err == nil {
		t.Errorf("a paused server said %q", answer)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if answer, err := redisSays(r, "PING", 10*time.Second); answer != "+PONG" || err != nil {
		t.Errorf("a resumed server said %q, %v", answer, err)
	}
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	r.Stop() // also ends a paused one
	if err := r.Pause(); !errors.Is(err, engine.ErrNotRunning) {
		t.Errorf("Pause of a stopped server gave %v, want ErrNotRunning", err)
	}
}

func TestRedisIsEmptyAfterARestartUnlessAppendOnly(t *testing.T) {
	for _, test := range []struct {
		appendOnly bool
		want       string
	}{{false, "$-1"}, {true, "$5\r\nvalue"}} {
		r := testenv.RedisWith(t, engine.RedisOptions{AppendOnly: test.appendOnly})
		if answer, err := redisSays(r, "SET key value", 10*time.Second); answer != "+OK" {
			t.Fatalf("SET: %q, %v", answer, err)
		}
		if err := r.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if answer, err := redisSays(r, "GET key", 10*time.Second); answer != test.want {
			t.Errorf("append only %v: GET gave %q, %v, want %q", test.appendOnly, answer, err, test.want)
		}
	}
}

func TestASecondServerOnAFolderIsRefusedByName(t *testing.T) {
	dir, cache := t.TempDir(), testenv.Ensure(t, "redis")
	first, err := engine.StartRedis(t.Context(), engine.RedisOptions{Dir: dir, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := engine.StartRedis(t.Context(), engine.RedisOptions{Dir: dir, Cache: cache})
	var inUse *engine.InUseError
	if !errors.As(err, &inUse) {
		if err == nil {
			second.Close()
		}
		t.Fatalf("a second server gave %v, want an InUseError", err)
	}
	if want := fmt.Sprintf("process %d,", first.PID()); inUse.Dir != dir || !strings.HasPrefix(inUse.By, want) {
		t.Errorf("it says %q, want it to name %s and %q", err, dir, want)
	}
	if answer, err := redisSays(first, "PING", 10*time.Second); answer != "+PONG" {
		t.Errorf("the first server was disturbed: %q, %v", answer, err)
	}
}

func TestATakenPortThatWasAskedForIsAnError(t *testing.T) {
	squatter, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	port := squatter.Addr().(*net.TCPAddr).Port
	r, err := engine.StartRedis(t.Context(), engine.RedisOptions{Dir: t.TempDir(), Cache: testenv.Ensure(t, "redis"), Port: port})
	if err == nil {
		r.Close()
		t.Fatal("started on a port somebody else has")
	}
	if !strings.Contains(err.Error(), "its port is taken") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
}

func TestKafkaKeepsItsClusterOverRestarts(t *testing.T) {
	k := testenv.Kafka(t)
	addr := k.Addr()
	for _, end := range []func(){k.Kill, k.Stop} {
		end()
		if _, err := net.DialTimeout("tcp4", addr, time.Second); err == nil {
			t.Fatal("the server that ended still listens")
		}
		begun := time.Now()
		if err := k.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialTimeout("tcp4", addr, 5*time.Second)
		if err != nil {
			t.Fatalf("dial after %s: %v", time.Since(begun), err)
		}
		conn.Close()
	}
}

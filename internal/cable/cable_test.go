package cable_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/cable"
)

// echo starts a server that sends every byte back.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// lay lays a cable that ends with the test.
func lay(t *testing.T, target string) *cable.Cable {
	t.Helper()
	c, err := cable.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a line and returns what comes back and how long that took.
func ask(conn net.Conn, line string) (answer string, took time.Duration, err error) {
	begun := time.Now()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", 0, err
	}
	answer, err = bufio.NewReader(conn).ReadString('\n')
	return answer, time.Since(begun), err
}

// askAnew asks on a connection of its own. A reset may show at the dial already.
func askAnew(t *testing.T, addr, line string) (answer string, err error) {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, _, err = ask(conn, line)
	return answer, err
}

func TestCableCarriesBytes(t *testing.T) {
	c := lay(t, echo(t))
	if answer, _, err := ask(dial(t, c.Addr()), "hello"); answer != "hello\n" || err != nil {
		t.Fatalf("got %q, %v", answer, err)
	}
}

func TestCutEndsConnectionsUntilRestore(t *testing.T) {
	c := lay(t, echo(t))
	conn := dial(t, c.Addr())
	if _, _, err := ask(conn, "before"); err != nil {
		t.Fatal(err)
	}
	c.Cut()
	if answer, _, err := ask(conn, "on the old connection"); err == nil {
		t.Fatalf("a cut cable answered %q", answer)
	}
	if answer, err := askAnew(t, c.Addr(), "on a new connection"); err == nil {
		t.Fatalf("a cut cable answered %q", answer)
	}
	c.Restore()
	if answer, err := askAnew(t, c.Addr(), "after"); answer != "after\n" || err != nil {
		t.Fatalf("after Restore: %q, %v", answer, err)
	}
}

func TestStallHoldsBytesBackAndRestoreDeliversThem(t *testing.T) {
	c := lay(t, echo(t))
	conn := dial(t, c.Addr())
	c.Stall()
	if _, err := io.WriteString(conn, "late\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a stalled cable gave %d bytes, %v", n, err)
	}
	c.Restore()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "late\n" || err != nil {
		t.Fatalf("after Restore: %q, %v", line, err)
	}
}

func TestLatencyDelaysEachWay(t *testing.T) {
	c := lay(t, echo(t))
	conn := dial(t, c.Addr())
	c.Latency(60 * time.Millisecond)
	if _, took, err := ask(conn, "slow"); err != nil || took < 120*time.Millisecond {
		t.Fatalf("a round trip took %s, want at least 120ms (%v)", took, err)
	}
	c.Restore()
	if _, took, err := ask(conn, "quick"); err != nil || took > 100*time.Millisecond {
		t.Fatalf("after Restore a round trip took %s (%v)", took, err)
	}
}

func TestCableToNobodyResets(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	c := lay(t, addr)
	if answer, err := askAnew(t, c.Addr(), "anyone?"); err == nil {
		t.Fatalf("got %q from nobody", answer)
	}
}

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resp is a Redis client of twenty lines, which shares nothing with the one in the program.
type resp struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialRedis(t *testing.T, addr string) *resp {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatalf("connect to redis: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &resp{conn, bufio.NewReader(conn)}
}

// do sends a command and returns its answer, flattened: one string for a simple answer, all of them for an array.
func (r *resp) do(t *testing.T, args ...string) []string {
	t.Helper()
	_ = r.conn.SetDeadline(time.Now().Add(patience)) // an expired one shows in the next line
	out := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		out += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(r.conn, out); err != nil {
		t.Fatalf("redis %v: %v", args, err)
	}
	answer, err := r.read()
	if err != nil {
		t.Fatalf("redis %v: %v", args, err)
	}
	return answer
}

func (r *resp) read() ([]string, error) {
	line, err := r.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	kind, text := line[0], line[1:]
	switch kind {
	case '-':
		return nil, fmt.Errorf("redis says %s", text)
	case '+', ':':
		return []string{text}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return nil, err
	}
	if kind == '$' {
		body := make([]byte, n+2)
		_, err := io.ReadFull(r.in, body)
		return []string{string(body[:n])}, err
	}
	var all []string
	for range n {
		part, err := r.read()
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// hash returns a hash.
func (r *resp) hash(t *testing.T, key string) map[string]string {
	t.Helper()
	flat := r.do(t, "HGETALL", key)
	out := make(map[string]string, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		out[flat[i]] = flat[i+1]
	}
	return out
}

// modelKey returns where docs/redis.md says that a key of the shop's model is.
func (r *resp) modelKey(t *testing.T, key string) string {
	t.Helper()
	generation := r.do(t, "HGET", "tributary:shop:cursor", "generation")
	if len(generation) != 1 {
		t.Fatal("redis has no cursor of the shop's model")
	}
	return "tributary:shop:" + generation[0] + ":" + key
}

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/testenv"
)

// serving is a running server.
type serving struct {
	*program
	http, grpc string // host:port
	data       string
}

// serve starts a server on a folder and free ports, and returns when it serves.
func serve(t *testing.T, data string, flags ...string) *serving {
	t.Helper()
	args := append([]string{"serve", "--json", "--data", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, flags...)
	s := &serving{program: start(t, built, args...), data: data}
	addresses := decoded[map[string]string](t, s.line(t))
	s.http = strings.TrimSuffix(strings.TrimPrefix(addresses["page"], "http://"), "/")
	s.grpc = addresses["grpc"]
	return s
}

// realServers are servers of this test's own part: a site, a database and a Redis that nobody else uses.
type realServers struct {
	site, kafka, redis    string
	database, clickhouse  string // the database's name, and where HTTP is answered
	user, password, click string // and where the native protocol is
}

func realOnes(t *testing.T) realServers {
	t.Helper()
	name := testenv.Unique(t)
	click := testenv.SharedClickHouse(t)
	return realServers{
		site: name, database: name,
		kafka: testenv.SharedKafka(t).Addr(), redis: testenv.Redis(t).Addr(),
		clickhouse: click.HTTPAddr(), click: click.TCPAddr(), user: click.User(), password: click.Password(),
	}
}

// flags tell the program to use the servers.
func (r realServers) flags() []string {
	return []string{
		"--site", r.site, "--kafka", r.kafka, "--redis", r.redis,
		"--clickhouse", fmt.Sprintf("clickhouse://%s:%s@%s/%s", r.user, r.password, r.click, r.database),
	}
}

// topic is where the site's events are published.
func (r realServers) topic() string { return "tributary." + r.site + ".events" }

// sql asks ClickHouse over plain HTTP and returns the rows, tab separated.
func (r realServers) sql(t *testing.T, statement string) []string {
	t.Helper()
	req := request(t, http.MethodPost, "http://"+r.clickhouse+"/?database="+r.database, statement)
	req.SetBasicAuth(r.user, r.password)
	resp, body := roundTrip(t, req)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("SQL %s: %s", statement, body)
	}
	if body == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(body, "\n"), "\n")
}

func request(t *testing.T, method, url, body string, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return req
}

func roundTrip(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	resp, err := http.DefaultClient.Do(req.WithContext(ctx))
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: read answer: %v", req.Method, req.URL, err)
	}
	return resp, string(body)
}

// object is a JSON object.
type object map[string]any

// call sends a request and wants a good answer. Headers are "Name: value".
func (s *serving) call(t *testing.T, method, path, body string, headers ...string) object {
	t.Helper()
	resp, text := roundTrip(t, request(t, method, "http://"+s.http+path, body, headers...))
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return decoded[object](t, text)
}

func (s *serving) get(t *testing.T, path string, headers ...string) object {
	t.Helper()
	return s.call(t, http.MethodGet, path, "", headers...)
}

func (s *serving) post(t *testing.T, path, body string, headers ...string) object {
	t.Helper()
	return s.call(t, http.MethodPost, path, body, headers...)
}

// events follows the log until seen says that it has seen enough.
func (s *serving) events(t *testing.T, query string, seen func(object) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := http.DefaultClient.Do(request(t, http.MethodGet, "http://"+s.http+"/v1/events?"+query, "").WithContext(ctx))
	if err != nil {
		t.Fatalf("follow the log: %v", err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewReader(resp.Body); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("follow the log: ended before what was looked for: %v", err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e object
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("follow the log: %v: %s", err, line)
		}
		if seen(e) {
			return
		}
	}
}

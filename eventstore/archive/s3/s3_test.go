package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
	"github.com/tributary-es/tributary/eventstore/archive/archivetest"
	"github.com/tributary-es/tributary/internal/testenv"
)

// server is an S3 server of its own process: versitygw over a folder.
type server struct {
	address, folder string
	cmd             *exec.Cmd
}

const (
	accessKey = "tester"
	secretKey = "not-a-secret"
)

var binary string // of the server; built once

// startServer starts the server on a folder that has the bucket "archive".
func startServer(t *testing.T, folder string) *server {
	t.Helper()
	if binary == "" {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("tributary-versitygw-%d", os.Getpid()))
		build := exec.Command("go", "build", "-o", path, "github.com/versity/versitygw/cmd/versitygw")
		build.Dir = filepath.Join("..", "..", "..", "internal", "tools", "s3server")
		if out, err := build.CombinedOutput(); err != nil {
			testenv.Missing(t, fmt.Sprintf("an S3 server (%v: %.300s)", err, out), "cd internal/tools/s3server && go build github.com/versity/versitygw/cmd/versitygw")
		}
		binary = path
	}
	if err := os.MkdirAll(filepath.Join(folder, "archive"), 0o700); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: free.Addr().String(), folder: folder}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	return s
}

// run runs the server until the test ends.
func (s *server) run(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(binary, "--port", s.address, "--access", accessKey, "--secret", secretKey, "--quiet", "posix", "--nometa", s.folder)
	var said bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	for start := time.Now(); ; {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("the S3 server does not answer: %v; it said: %.1000s", err, said.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill() // it may be gone
	_ = s.cmd.Wait()
}

func (s *server) location(prefix string) string {
	return "s3://archive/" + prefix + "?region=us-east-1&endpoint=" + url.QueryEscape("http://"+s.address)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary != "" {
		_ = os.Remove(binary)
	}
	os.Exit(code)
}

func opened(t *testing.T, location string) archive.Bucket {
	t.Helper()
	b, err := Open(location)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A bucket of a real S3 server keeps what a Bucket promises, below its prefix.
func TestBucket(t *testing.T) {
	s := startServer(t, t.TempDir())
	for _, prefix := range []string{"", "some/where"} {
		archivetest.Bucket(t, opened(t, s.location(prefix)))
	}
}

// What keeps a bucket from being reached is an error that says why, and passes: a server that is away, a bucket that is not
// there, a key that is wrong. Shows S30.
func TestOutOfReach(t *testing.T) {
	folder := t.TempDir()
	s := startServer(t, folder)
	ctx := context.Background()
	segment := &archive.Segment{First: 1, Last: 3}
	var w archive.Writer
	w.Add(3, []byte("three events"))
	body := w.Seal("site/shard-00", segment)
	location := s.location("p")
	a := archive.New(location, opened(t, location), &archive.Options{Patience: 10 * time.Second})
	if err := a.Put(ctx, segment, body, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	unreachable := func(what, location, why string) {
		t.Helper()
		b, err := Open(location)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = archive.New(location, b, &archive.Options{Patience: 3 * time.Second}).Block(segment, 2)
		var gone *eventstore.ArchiveError
		if !errors.As(err, &gone) || gone.Location != location || gone.Segment != segment.Name || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want an error that names the segment and says %q", what, err, why)
		}
	}
	unreachable("another bucket", strings.Replace(location, "archive", "nothing", 1), "bucket")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	unreachable("a wrong key", location, "signature")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	s.stop()
	unreachable("no server", location, s.address)
	s.run(t)
	if block, last, err := a.Block(segment, 1); err != nil || last != 3 || string(block) != "three events" {
		t.Errorf("read when the server was there again: %q, %d, %v", block, last, err)
	}
}

// Locations that mean nothing are refused with what to write.
func TestLocations(t *testing.T) {
	for _, location := range []string{"s3://", "s3:///x", "s3://b/p?endpoint=ftp://x", "s3://b/p?endpoint=http://x/path", "s3://b/p?endpont=http://x", "gs://b"} {
		if _, err := Open(location); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), location) {
			t.Errorf("open %s: %v", location, err)
		}
	}
	b := opened(t, "s3://b/p?endpoint=http://127.0.0.1:1")
	if got := b.(*bucket).client.EndpointURL().String(); got != "http://127.0.0.1:1" {
		t.Errorf("endpoint is %s", got)
	}
}

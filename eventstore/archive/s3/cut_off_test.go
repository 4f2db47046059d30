package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// A connection that breaks in the middle of an answer is no damage: it passes.
func TestBrokenConnectionIsNoDamage(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", "Sun, 29 Nov 2026 01:00:00 GMT")
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
		w.Header().Set("Content-Range", "bytes 0-999/1000")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusPartialContent)
		fmt.Fprint(w, strings.Repeat("x", 300))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler) // cuts the connection
	}))
	defer server.Close()
	b, err := Open("s3://bucket/prefix?region=r&endpoint=" + server.URL)
	if err != nil {
		t.Fatal(err)
	}
	a := archive.New("s3://bucket/prefix", b, nil)
	defer a.Close()
	err = a.Check(context.Background(), &archive.Segment{Name: "s.segment", First: 1, Last: 2, Bytes: 1000, SHA256: "?"})
	if errors.Is(err, eventstore.ErrCorrupt) || !errors.Is(err, eventstore.ErrArchiveUnavailable) {
		t.Errorf("a broken connection is taken for damage: %v", err)
	}
}

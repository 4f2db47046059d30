package e2e

import (
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestLoyalty builds and runs the example of a domain of one's own: short, without a word of commerce, and served with
// everything that the shop has.
func TestLoyalty(t *testing.T) {
	folder := filepath.Join(root, "examples/loyalty")
	source, err := os.ReadFile(filepath.Join(folder, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "\n"); n > 100 {
		t.Errorf("the example has %d lines, 100 were promised", n)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", source, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range file.Imports {
		if strings.Contains(imported.Path.Value, "commerce") {
			t.Errorf("the example imports %s", imported.Path.Value)
		}
	}
	path, err := build(folder, t.TempDir(), "example.com/loyalty")
	if err != nil {
		t.Fatal(err)
	}

	data := t.TempDir()
	s := loyalty(t, path, data)
	s.post(t, "/v1/points/ann/earn", `{"points": 50}`)
	receipt := s.post(t, "/v1/points/ann/spend", `{"points": 20}`, "Idempotency-Key: spend-1")
	again := s.post(t, "/v1/points/ann/spend", `{"points": 20}`, "Idempotency-Key: spend-1")
	if again["duplicate"] != true || again["position"] != receipt["position"] {
		t.Errorf("the repeated command: %v, the first: %v", again, receipt)
	}
	position, _ := receipt["position"].(string)
	if got := s.get(t, "/v1/points/ann", "X-Read-After: "+position); got["points"] != float64(30) {
		t.Errorf("ann has %v, want 30 points", got)
	}
	resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+s.http+"/v1/points/ann/spend", `{"points": 31}`))
	if resp.StatusCode/100 != 4 || !strings.Contains(body, "points.insufficient") {
		t.Errorf("spending more than there is: %s: %s", resp.Status, body)
	}
	s.interrupt(t)

	s = loyalty(t, path, data)
	if got := s.get(t, "/v1/points/ann", "X-Read-After: "+position); got["points"] != float64(30) {
		t.Errorf("after a restart ann has %v, want 30 points", got)
	}
	s.interrupt(t)
}

var servingOn = regexp.MustCompile(`serving on http://([^/]+)/ and grpc ([^,]+),`)

// loyalty starts the example on free ports.
func loyalty(t *testing.T, path, data string) *serving {
	t.Helper()
	cmd := exec.Command(path, data)
	cmd.Env = append(os.Environ(), "HTTP=127.0.0.1:0", "GRPC=127.0.0.1:0")
	s := &serving{program: launch(t, cmd), data: data}
	eventually(t, "the example says where it serves", func() bool {
		select {
		case <-s.ended:
			t.Fatalf("the example ended: %s", s.errText())
		default:
		}
		found := servingOn.FindStringSubmatch(s.errText())
		if found != nil {
			s.http, s.grpc = found[1], found[2]
		}
		return found != nil
	})
	return s
}

// interrupt is Ctrl-C.
func (s *serving) interrupt(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if a := s.wait(t); a.code != 0 {
		t.Errorf("ended with code %d after Ctrl-C: %s", a.code, a.stderr)
	}
}

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDev runs a server on throwaway data with the sample loaded, and finds nothing of it afterwards.
func TestDev(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	shipped := fmt.Sprintf(`"shipped":"%d"`, sums(t, []string{testdata(t, "sample-2010-12.csv.gz")}).Redis.Shipped)
	s := &serving{program: start(t, built, "dev", "--json", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")}
	addresses := decoded[map[string]string](t, s.line(t))
	s.http = strings.TrimSuffix(strings.TrimPrefix(addresses["page"], "http://"), "/")
	eventually(t, "the sample's orders are shipped", func() bool {
		_, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/order-counts", ""))
		return strings.Contains(body, shipped)
	})
	s.stop(t)
	if left, err := filepath.Glob(filepath.Join(temporary, "*")); err != nil || len(left) > 0 {
		t.Errorf("dev left %q behind, %v", left, err)
	}
	if left := processesOf(t, temporary); len(left) > 0 {
		t.Errorf("dev left processes behind: %q", left)
	}
}

// TestSample is what make run does: the sample is loaded once, a table says what it did, with the addresses after it, and a
// second start has the same data.
func TestSample(t *testing.T) {
	data, want := filepath.Join(t.TempDir(), "data"), sums(t, []string{testdata(t, "sample-2010-12.csv.gz")})
	orders := fmt.Sprintf("%d, %d", want.Redis.Orders, want.Redis.Shipped)
	for run := range 2 {
		p := start(t, built, "serve", "--sample", "--data", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
		var said strings.Builder
		eventually(t, "addresses and the sample's figures are shown", func() bool {
			select {
			case line, ok := <-p.lines:
				if !ok {
					t.Fatalf("the server ended: %s", p.errText())
				}
				said.WriteString(line)
			default:
			}
			text := said.String()
			return strings.Contains(text, "http://127.0.0.1:") && strings.Contains(text, orders) && strings.Contains(text, want.ClickHouse.Net)
		})
		if run == 1 && strings.Contains(said.String(), "(0 repeated)") {
			t.Errorf("the second start imported the sample anew:\n%s", said.String())
		}
		p.stop(t)
		if left := processesOf(t, data); len(left) > 0 {
			t.Errorf("processes are left: %q", left)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "store")); err != nil {
		t.Error(err)
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

// twoSites are two servers that replicate, each with a topic and models of its own.
type twoSites struct {
	kafka string
	names [2]string
	grpc  [2]string // addresses
	data  [2]string
	flags [2][]string
	at    [2]*serving
}

// freePorts returns addresses that were free just now, and that nobody here is given a second time.
func freePorts(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range n {
		addr, err := engine.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, addr)
	}
	return addrs
}

func newSites(t *testing.T) *twoSites {
	t.Helper()
	name := testenv.Unique(t)
	s := &twoSites{kafka: testenv.SharedKafka(t).Addr(), names: [2]string{name + "-a", name + "-b"}}
	addrs := freePorts(t, 2)
	for i := range s.names {
		s.grpc[i], s.data[i] = addrs[i], t.TempDir()
		s.flags[i] = []string{
			"--site", s.names[i], "--kafka", s.kafka, "--clickhouse", "off", "--peer", fmt.Sprintf("%s=%s,%s", s.names[1-i], addrs[1-i], s.kafka),
		}
	}
	return s
}

// both starts both sites for the first time: new ones wait for each other.
func (s *twoSites) both(t *testing.T) (a, b *serving) {
	t.Helper()
	a, b = s.launch(t, 0), s.launch(t, 1)
	a.listening(t)
	b.listening(t)
	return a, b
}

// start starts a site again, and returns when it takes commands.
func (s *twoSites) start(t *testing.T, i int) *serving {
	t.Helper()
	p := s.launch(t, i)
	p.listening(t)
	return p
}

func (s *twoSites) launch(t *testing.T, i int) *serving {
	t.Helper()
	args := append([]string{"serve", "--json", "--data", s.data[i], "--http", "127.0.0.1:0", "--grpc", s.grpc[i]}, s.flags[i]...)
	s.at[i] = &serving{program: start(t, built, args...), data: s.data[i], grpc: s.grpc[i]}
	return s.at[i]
}

// listening takes what a server says of where it listens, and waits until it takes commands; one that goes on in another life says it
// again.
func (s *serving) listening(t *testing.T) {
	t.Helper()
	addresses := decoded[map[string]string](t, s.line(t))
	s.http = strings.TrimSuffix(strings.TrimPrefix(addresses["page"], "http://"), "/")
	eventually(t, "the site takes commands", func() bool {
		ready, err := s.code(t, "/v1/health/ready")
		if err != nil { // it has begun another life
			addresses = decoded[map[string]string](t, s.line(t))
			s.http = strings.TrimSuffix(strings.TrimPrefix(addresses["page"], "http://"), "/")
		}
		return ready == http.StatusOK
	})
}

// code asks for a page that may not be there.
func (s *serving) code(t *testing.T, path string) (int, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := http.DefaultClient.Do(request(t, http.MethodGet, "http://"+s.http+path, "").WithContext(ctx))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func (s *serving) order(t *testing.T, id string) {
	t.Helper()
	s.post(t, "/v1/orders", fmt.Sprintf(`{"id": %q, "customer_id": "17850", "country": "France",
		"lines": [{"stock_code": "MUG-1", "description": "Mug", "quantity": 1, "unit_price": "4.25"}]}`, id))
}

// equal waits until both sites hold the same of every log, and know it.
func (s *twoSites) equal(t *testing.T) {
	t.Helper()
	for i, at := range s.at {
		eventually(t, "site "+s.names[i]+" has what the other has", func() bool {
			r := at.get(t, "/v1/sites/compare")
			rows, _ := r["comparisons"].([]any)
			return r["equal"] == true && len(rows) >= 2
		})
	}
}

// sameStock waits until a stock code reads the same at both sites.
func (s *twoSites) sameStock(t *testing.T, code string) {
	t.Helper()
	var got [2]string
	eventually(t, "stock "+code+" is the same at both sites", func() bool {
		for i, at := range s.at {
			stock := at.get(t, "/v1/stock/"+code)
			delete(stock, "position") // each site's own
			got[i] = fmt.Sprint(stock)
		}
		return got[0] == got[1]
	})
	t.Logf("%s: %s", code, got[0])
}

// sameOrders wants an order to read the same at both sites, once their models are there.
func (s *twoSites) sameOrders(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		var got [2]string
		eventually(t, "order "+id+" is the same at both sites", func() bool {
			for i, at := range s.at {
				resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+at.http+"/v1/orders/"+id, ""))
				order := object{}
				if resp.StatusCode == http.StatusOK {
					order = decoded[object](t, body)
				}
				delete(order, "position") // each site's own
				got[i] = fmt.Sprint(order)
			}
			return got[0] == got[1] && strings.Contains(got[0], "17850")
		})
	}
}

// Orders are placed at both of two sites, also while one of them is dead, by kill -9; both have all of them in the end, from
// the same events with the same chains, and what verify checks is whole at both. Then the folder of one is put back to an
// earlier state: it goes on in another life, and gets back what it had lost. Shows R1, R4 and R6.
func TestTwoSites(t *testing.T) {
	s := newSites(t)
	a, b := s.both(t)
	for _, at := range s.at {
		at.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	}
	a.order(t, "A-1")
	b.order(t, "B-1")
	s.equal(t)
	s.sameOrders(t, "A-1", "B-1")

	// One dies, the other goes on.
	b.kill()
	for i := range 5 {
		a.order(t, fmt.Sprintf("A-2%d", i))
	}
	eventually(t, "a says that it is alone", func() bool { return a.get(t, "/v1/sites")["mode"] == "isolated" })
	b = s.start(t, 1)
	b.order(t, "B-3")
	s.equal(t)
	s.sameOrders(t, "A-24", "B-3")
	b.stop(t)
	earlier := t.TempDir()
	if err := os.CopyFS(earlier, os.DirFS(filepath.Join(s.data[1], "store"))); err != nil {
		t.Fatal(err)
	}
	b = s.start(t, 1)
	b.order(t, "B-4")
	s.equal(t)

	// The folder is put back: b gives no dot twice.
	b.kill()
	store := filepath.Join(s.data[1], "store")
	if err := errors.Join(os.RemoveAll(store), os.CopyFS(store, os.DirFS(earlier))); err != nil {
		t.Fatal(err)
	}
	b = s.start(t, 1)
	eventually(t, "b goes on in another life", func() bool {
		return strings.HasSuffix(fmt.Sprint(b.get(t, "/v1/sites")["log"]), "/2")
	})
	b.order(t, "B-5")
	s.equal(t)
	s.sameOrders(t, "A-1", "B-1", "A-24", "B-3", "B-4", "B-5")

	// What sagas still record is a heartbeat ahead at the site that records it.
	eventually(t, "sites verify finds the same events at all sites", func() bool {
		return areTheSame(t, s.data[0])
	})
	for i := range s.at {
		if r := verify(t, s.data[i]); len(r.Faults) > 0 || r.Kafka.Missing+r.Kafka.Duplicates > 0 || r.Redis.Orders != 10 {
			t.Errorf("site %s: %+v", s.names[i], r)
		}
	}
}

// What is recorded at one site comes to a reader at the other by itself, each event once; the test says how soon.
func TestLagBetweenSites(t *testing.T) {
	s := newSites(t)
	s.both(t)
	s.equal(t)
	r := decoded[object](t, done(t, "bench", "lag", "--from", s.grpc[0], "--to", s.grpc[1], "--rate", "100", "--duration", "1s", "--clients", "4", "--json"))
	if r["events"] != 100. {
		t.Errorf("bench lag says %v", r)
	}
	t.Logf("100 events a second, from the append's call at one site to a reader at the other: p50 %v µs, p99 %v µs", r["p50_us"], r["p99_us"])
	if a := tributary(t, "bench", "lag", "--from", s.grpc[0], "--to", s.grpc[1], "--rate", "0"); a.code != 2 || !strings.Contains(a.stderr, "--rate") {
		t.Errorf("a closed loop ends with %d: %s", a.code, a.stderr)
	}
}

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/internal/testenv"
)

// brokers are those that two sites share, and that a test stops and starts.
type brokers struct {
	dir    string
	port   int
	broker *embedded.Broker
}

func (b *brokers) start(t *testing.T) (addr string) {
	t.Helper()
	var err error
	if b.broker, err = embedded.Open(b.dir, embedded.Options{Port: b.port}); err != nil {
		t.Fatal(err)
	}
	addr = b.broker.Addr()
	_, port, _ := net.SplitHostPort(addr)
	if b.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return addr
}

func (b *brokers) stop(t *testing.T) {
	t.Helper()
	if err := b.broker.Close(); err != nil {
		t.Error(err)
	}
}

// The read models of one of two sites are filled from its feed. Orders are taken at both, also under one id while they do not hear of each
// other, so that what comes later stands before what was applied; the site is killed, and the brokers stop; in the end its read models
// are those of the other site, which reads its store, and the feed is whole. Then its folder is put back to an earlier state: the log goes on in
// another life, and the feed begins anew. Shows M6, M7 and I13.
func TestReadModelsFromTheFeed(t *testing.T) {
	kafka := brokers{dir: t.TempDir()}
	addr := kafka.start(t)
	t.Cleanup(func() { kafka.stop(t) })
	name, addrs := testenv.Unique(t), freePorts(t, 2)
	s := &twoSites{kafka: addr, names: [2]string{name + "-a", name + "-b"}}
	for i := range s.names {
		s.grpc[i], s.data[i] = addrs[i], t.TempDir()
		s.flags[i] = []string{
			"--site", s.names[i], "--kafka", addr, "--clickhouse", "off", "--peer", fmt.Sprintf("%s=%s,%s", s.names[1-i], addrs[1-i], addr),
		}
	}
	s.flags[1] = append(s.flags[1], "--source", "kafka")
	a, b := s.both(t)
	for _, at := range s.at {
		at.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	}
	a.order(t, "A-1")
	b.order(t, "B-1")
	s.equal(t)
	s.sameOrders(t, "A-1", "B-1")

	// The order of a is the first, and comes to b when b has shipped its own.
	b.kill()
	kafka.stop(t)
	a.order(t, "X-1")
	a.kill()
	kafka.start(t)
	b = s.start(t, 1)
	b.order(t, "X-1")
	eventually(t, "b ships its order", func() bool { return b.checkoutEnd(t, "X-1", s.names[1]) == "shipped" })
	a = s.start(t, 0)
	eventually(t, "the checkout of the void order has ended", func() bool { return b.checkoutEnd(t, "X-1", s.names[1]) == "void" })

	// Without brokers commands go on, and what is read at b stands still.
	kafka.stop(t)
	eventually(t, "b misses the brokers", func() bool {
		_, body := roundTrip(t, request(t, http.MethodGet, "http://"+b.http+"/v1/health", ""))
		return strings.Contains(body, `"name":"feed","up":false`)
	})
	eventually(t, "b says that its link to a is not followed", func() bool { healthy, ok := b.link(t, s.names[0]); return ok && !healthy })
	for i := range 3 {
		a.order(t, fmt.Sprint("Y-", i))
		b.order(t, fmt.Sprint("Z-", i))
	}
	b.kill()
	kafka.start(t)
	b = s.start(t, 1)
	same := func(orders int64) {
		t.Helper()
		s.equal(t)
		s.sameOrders(t, "A-1", "B-1", "X-1", "Y-2", "Z-2")
		s.sameStock(t, "MUG-1")
		eventually(t, "sites verify finds the same events and read models", func() bool { return areTheSame(t, s.data[0]) })
		eventually(t, fmt.Sprintf("verify at b finds the feed whole, and %d orders, when the checkouts have come to an end", orders), func() bool {
			r := verify(t, s.data[1])
			if len(r.Faults) > 0 || r.Feed == nil || r.Feed.Missing+r.Feed.Duplicates > 0 {
				t.Fatalf("verify at b: %+v, feed %+v of %d events, redis %+v", r.Faults, r.Feed, r.Log.Events, r.Redis)
			}
			return r.Feed.Records == r.Log.Events && r.Redis.Orders == orders
		})
	}
	same(9)
	if r := verify(t, s.data[0]); len(r.Faults) > 0 || r.Feed != nil {
		t.Errorf("verify at a: %+v, feed %+v", r.Faults, r.Feed)
	}
	feed, _ := b.get(t, "/v1/status")["feed"].(map[string]any)
	if feed["topic"] != "tributary."+s.names[1]+".feed" || feed["state"] != "mirroring" {
		t.Errorf("status says of the feed %v", feed)
	}
	eventually(t, "the metrics say that the feed has all", func() bool {
		_, body := roundTrip(t, request(t, http.MethodGet, "http://"+b.http+"/metrics", ""))
		return strings.Contains(body, "tributary_feed_lag_events 0")
	})

	eventually(t, "b says that its link to a is followed", func() bool { healthy, _ := b.link(t, s.names[0]); return healthy })

	b.stop(t)
	store, earlier := filepath.Join(s.data[1], "store"), t.TempDir()
	if err := os.CopyFS(earlier, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	b = s.start(t, 1)
	b.order(t, "B-2")
	s.equal(t)
	b.kill()
	if err := errors.Join(os.RemoveAll(store), os.CopyFS(store, os.DirFS(earlier))); err != nil {
		t.Fatal(err)
	}
	b = s.start(t, 1)
	eventually(t, "b goes on in another life", func() bool {
		return strings.HasSuffix(fmt.Sprint(b.get(t, "/v1/sites")["log"]), "/2")
	})
	b.order(t, "B-3")
	s.sameOrders(t, "B-2", "B-3")
	same(11)
}

// link returns whether a site says that its link to another one is followed, and whether it has one.
func (s *serving) link(t *testing.T, to string) (healthy, ok bool) {
	t.Helper()
	syncers, _ := s.get(t, "/v1/status")["syncers"].([]any)
	for _, each := range syncers {
		if syncer, _ := each.(map[string]any); syncer["name"] == "link "+to {
			healthy, _ = syncer["healthy"].(bool)
			return healthy, true
		}
	}
	return false, false
}

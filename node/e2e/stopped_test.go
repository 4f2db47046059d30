package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/testenv"
)

// TestServersStopped stops Kafka, Redis and ClickHouse, one after the other, under a load of commands: no command fails,
// and everything catches up. Shows M5.
func TestServersStopped(t *testing.T) {
	outage := 3 * time.Second
	sources := []string{"store"}
	if *long {
		outage, sources = 20*time.Second, []string{"store", "kafka"}
	}
	for _, source := range sources {
		t.Run(source, func(t *testing.T) { serversStopped(t, source, outage) })
	}
}

// stoppable is what the engines have in common.
type stoppable interface {
	Stop()
	Restart(ctx context.Context) error
}

func serversStopped(t *testing.T, source string, outage time.Duration) {
	kafka, redis, click := testenv.Kafka(t), testenv.Redis(t), testenv.ClickHouse(t)
	servers := realServers{
		site: "stopped", database: "stopped", kafka: kafka.Addr(), redis: redis.Addr(),
		clickhouse: click.HTTPAddr(), click: click.TCPAddr(), user: click.User(), password: click.Password(),
	}
	s := serve(t, t.TempDir(), append(servers.flags(), "--source", source)...)
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 1000000}`)
	s.caughtUp(t)

	load := startLoad(t, s)
	for _, engine := range []struct {
		name string
		stoppable
	}{{"kafka", kafka}, {"redis", redis}, {"clickhouse", click}} {
		before := load.placed.Load()
		load.most.Store(before + perOutage)
		engine.Stop()
		time.Sleep(outage) // how long the server is away is what is tested
		if err := engine.Restart(t.Context()); err != nil {
			t.Fatalf("start %s again: %v", engine.name, err)
		}
		back := time.Now()
		s.follows(t, s.status(t).Durable)
		t.Logf("%s was away while %d orders were placed; what they led to was everywhere %.1f s later",
			engine.name, load.placed.Load()-before, time.Since(back).Seconds())
	}
	placed := load.stop()
	ended := time.Now()
	s.caughtUp(t)
	t.Logf("%d orders were placed; %.1f s later everything had caught up", placed, time.Since(ended).Seconds())

	if got := servers.sql(t, "SELECT count(), countIf(status = 'shipped') FROM orders")[0]; got != fmt.Sprintf("%d\t%d", placed, placed) {
		t.Errorf("clickhouse has %s orders and shipped ones, %d were placed", got, placed)
	}
	counts := dialRedis(t, servers.redis)
	if got := counts.hash(t, counts.modelKey(t, "order-counts"))["shipped"]; got != fmt.Sprint(placed) {
		t.Errorf("redis has %s shipped orders, %d were placed", got, placed)
	}
	if r := verify(t, s.data); len(r.Faults) > 0 || r.Kafka.Records != r.Log.Events {
		t.Errorf("verify: %v; kafka has %d records of %d events", r.Faults, r.Kafka.Records, r.Log.Events)
	}
	s.stop(t)
}

// perOutage is how many orders are placed while a server is away, and comes back, at most: a server that takes long to start is not to
// leave more behind than what follows can make good in time.
const perOutage = 1000

// load is clients that place orders, one after the other each, until they are told to stop.
type load struct {
	placed atomic.Int64 // that were acknowledged
	most   atomic.Int64 // no client begins another order when so many are placed
	ending atomic.Bool  // the server is about to stop: what it does not take is no fault
	cancel context.CancelFunc
	all    sync.WaitGroup
}

const loadClients = 4

func startLoad(t *testing.T, s *serving) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	l.most.Store(math.MaxInt64)
	t.Cleanup(func() { l.stop() })
	for client := range loadClients {
		l.all.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				for l.placed.Load() >= l.most.Load() && ctx.Err() == nil {
					<-pace.C
				}
				id := fmt.Sprintf("L-%d-%d", client, n)
				body := `{"id": "` + id + `", "customer_id": "17850", "country": "France", "lines": [{"stock_code": "MUG-1", "quantity": 1, "unit_price": "4.25"}]}`
				resp, err := http.Post("http://"+s.http+"/v1/orders", "application/json", strings.NewReader(body))
				if err != nil {
					if !l.ending.Load() {
						t.Errorf("order %s: %v", id, err)
					}
					return
				}
				answer, _ := io.ReadAll(resp.Body) // for the message alone
				resp.Body.Close()
				if resp.StatusCode == http.StatusCreated {
					l.placed.Add(1)
				} else if !l.ending.Load() {
					t.Errorf("order %s: %s: %s", id, resp.Status, answer)
				}
				<-pace.C
			}
		})
	}
	return l
}

// stop ends the load and returns how many orders were placed.
func (l *load) stop() int64 {
	l.cancel()
	l.all.Wait()
	return l.placed.Load()
}

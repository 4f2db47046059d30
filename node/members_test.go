package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/replication"
)

// called counts the connections to a server of gRPC that are open.
type called struct{ open atomic.Int64 }

func (c *called) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *called) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c *called) HandleRPC(context.Context, stats.RPCStats)                         {}

func (c *called) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.open.Add(1)
	case *stats.ConnEnd:
		c.open.Add(-1)
	}
}

// listen returns a listener on a free port that is closed when the test ends.
func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a server may have closed it
	return l
}

// serveGRPC runs a server until the test ends.
func serveGRPC(t *testing.T, s *grpc.Server) (addr string) {
	t.Helper()
	l := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// server runs a server of gRPC that answers nothing.
func (c *called) server(t *testing.T) (addr string) {
	t.Helper()
	return serveGRPC(t, grpc.NewServer(grpc.StatsHandler(c)))
}

// broker takes connections, and answers nothing.
func (c *called) broker(t *testing.T) (addr string) {
	t.Helper()
	l := listen(t)
	var holding sync.WaitGroup
	holding.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.open.Add(1)
			holding.Go(func() {
				defer c.open.Add(-1)
				defer conn.Close()
				for buf := make([]byte, 1<<10); ; {
					if _, err := conn.Read(buf); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // it may be closed
		holding.Wait()
	})
	return l.Addr().String()
}

// A site that has left is called no more, nor is the former address of one that is found elsewhere: neither its server nor its brokers.
func TestSitesThatLeaveAreHungUpOn(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	p := &sitesPart{name: "bj", log: slog.New(slog.DiscardHandler), readOnly: &readOnly{}, ready: make(chan struct{}), given: map[string]bool{}, known: map[string]joinedPeer{}}
	var err error
	p.site, err = replication.NewSite(replication.Options{
		Config: replication.Config{Site: "bj", Begun: true}, Store: store, Topic: earlierTopic(nil),
		Links: map[string]replication.Link{}, Peers: map[string]replication.Peer{}, MaxBackoff: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	var former, server, formerBroker, broker called
	at := replication.Member{Site: "sh", GRPC: former.server(t), Kafka: formerBroker.broker(t)}
	moved := replication.Member{Site: "sh", GRPC: server.server(t), Kafka: broker.broker(t)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.site.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := errors.Join(p.close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	meet := func(r replication.Roster, what string, want ...*called) {
		t.Helper()
		if err := p.meet(ctx, r); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(8 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			wrong := 0
			for _, c := range []*called{&former, &formerBroker, &server, &broker} {
				wanted := false
				for _, w := range want {
					wanted = wanted || w == c
				}
				if (c.open.Load() > 0) != wanted {
					wrong++
				}
			}
			if wrong == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: open are %d and %d connections to where the site was, %d and %d to where it is (server, brokers)",
					what, former.open.Load(), formerBroker.open.Load(), server.open.Load(), broker.open.Load())
			}
		}
	}
	meet(replication.Roster{Members: []replication.Member{at}}, "a site has come", &former, &formerBroker)
	meet(replication.Roster{Members: []replication.Member{moved}}, "it is found elsewhere", &server, &broker)
	meet(replication.Roster{Left: []string{"sh"}}, "it has left")
	if len(p.closing) > 0 {
		t.Errorf("%d connections are kept to be ended", len(p.closing))
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
)

// peerWriters are clients that append with durability peer, each with many appends under way.
type peerWriters struct {
	mu    sync.Mutex // guards what follows
	acked []string   // ids of requests that were acknowledged as being at another site
	took  []time.Duration
}

// write appends until ctx ends, or the server is gone.
func (w *peerWriters) write(ctx context.Context, t *testing.T, addr, name string, ready *sync.WaitGroup) {
	c, err := client.Dial(ctx, addr, &client.Options{Patience: time.Second})
	if err != nil {
		t.Error(err)
		ready.Done()
		return
	}
	defer func() { _ = c.Close() }() // its server is gone
	var all sync.WaitGroup
	first := sync.OnceFunc(ready.Done)
	for i := range 16 {
		all.Go(func() {
			defer first() // when nothing works the test says so
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%s-%d-%d", name, i, n)
				begun := time.Now()
				receipt, err := c.Append(ctx, eventstore.Request{ID: id, Durability: eventstore.Peer, Appends: []eventstore.StreamAppend{{
					Stream: eventstore.Stream("probe", fmt.Sprintf("%s-%d", name, i)), Events: []eventstore.Event{{Type: "probe.sent.v1", Payload: make([]byte, 200)}},
				}}})
				switch {
				case err == nil && receipt.Reached == eventstore.Peer:
					w.add(id, time.Since(begun))
					first()
				case err == nil:
					t.Errorf("request %s asked for peer, is acknowledged, and says %s", id, receipt.Reached)
				case errors.Is(err, eventstore.ErrOutcomeUnknown), errors.Is(err, eventstore.ErrClosed):
					return // the server is gone
				}
			}
		})
	}
	all.Wait()
}

func (w *peerWriters) add(id string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked, w.took = append(w.acked, id), append(w.took, took)
}

func (w *peerWriters) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// requestsOf returns the ids of the requests whose events a server holds.
func requestsOf(t *testing.T, s *serving) map[string]bool {
	t.Helper()
	c, err := client.Dial(t.Context(), s.grpc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	held := map[string]bool{}
	for e, err := range c.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Categories: []string{"probe"}}) {
		if err != nil {
			t.Fatal(err)
		}
		held[e.CommandID] = true
	}
	return held
}

// deleteTopic deletes a topic as an operator would.
func deleteTopic(t *testing.T, broker, topic string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TopicNames = []string{topic}
	one := kmsg.NewDeleteTopicsRequestTopic()
	one.Topic = &topic
	request.Topics = append(request.Topics, one)
	response, err := request.RequestWith(t.Context(), c)
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("delete topic %s: %v", topic, err)
	}
}

// Clients append at one of two sites with durability peer. The other is killed by -9 under that load, and the first as well when it
// has noticed, and is lost whole, its folder and its topic: the other has every event that was acknowledged. (That it is on its disk,
// and not with the operating system, which kill -9 leaves alone, is what replication.TestPeerIsTheOtherSitesDisk shows.) The first,
// begun again with nothing, has them back. With no other site to wait for such appends are refused, and others go on. Shows R13.
func TestPeerLosesNothing(t *testing.T) {
	rounds := 1
	if *long {
		rounds = 20
	}
	s := newSites(t)
	a, b := s.both(t)
	s.equal(t)
	var w peerWriters
	for round := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var writers, ready sync.WaitGroup
		for i := range 4 {
			ready.Add(1)
			writers.Go(func() { w.write(ctx, t, a.grpc, fmt.Sprintf("%d-%d", round, i), &ready) })
		}
		ready.Wait()
		before := w.count()
		eventually(t, "much is acknowledged", func() bool { return w.count() > before+2000 })
		b.kill()
		// Whatever is acknowledged until the site knows that it is alone has to be at b.
		eventually(t, "a knows that it is alone", func() bool { return a.get(t, "/v1/sites")["mode"] == "isolated" })
		a.kill()
		cancel()
		writers.Wait()
		deleteTopic(t, s.kafka, "tributary."+s.names[0]+".events")
		if err := os.RemoveAll(s.data[0]); err != nil {
			t.Fatal(err)
		}

		b = s.start(t, 1)
		held, lost := requestsOf(t, b), []string(nil)
		for _, id := range w.acked {
			if !held[id] {
				lost = append(lost, id)
			}
		}
		if len(lost) > 0 {
			t.Fatalf("round %d: of %d events that were acknowledged as being at b %d are not there, such as %s", round+1, len(w.acked), len(lost), lost[0])
		}
		refused(t, b)
		a = s.start(t, 0)
	}
	slices.Sort(w.took)
	t.Logf("%d rounds, %d acknowledged, 0 lost; an append of durability peer with 64 under way took p50 %s, p99 %s",
		rounds, len(w.acked), w.took[len(w.took)/2], w.took[len(w.took)*99/100])
	eventually(t, "what was acknowledged is back", func() bool {
		held := requestsOf(t, a)
		return !slices.ContainsFunc(w.acked, func(id string) bool { return !held[id] })
	})
	if r := a.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 10}`, "X-Durability: peer"); r["durability"] != "peer" {
		t.Errorf("a command over HTTP is answered with %v", r)
	}
}

// refused wants a site that hears no other to refuse what asks for one, with its mode and when to try again, and nothing else.
func refused(t *testing.T, s *serving) {
	t.Helper()
	place := func(durability string) (*http.Response, string) {
		return roundTrip(t, request(t, http.MethodPost, "http://"+s.http+"/v1/stock/MUG-1/receive", `{"quantity": 1}`, "X-Durability: "+durability))
	}
	eventually(t, "what asks for another site is refused since there is none", func() bool {
		resp, body := place("peer")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("alone, the site answers with %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), body)
		}
		return strings.Contains(body, `"mode":"isolated"`) // the mirror is away at first
	})
	if resp, body := place("local"); resp.StatusCode != http.StatusOK {
		t.Errorf("alone, the site answers what asks for its own disk with %s: %s", resp.Status, body)
	}
}

package peers_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/peers"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// wholeTopic is a topic that has everything at once.
type wholeTopic struct{ store *memstore.Store }

func (w wholeTopic) Ends(context.Context, func()) ([]eventstore.LogHead, error) { return nil, nil }

func (wholeTopic) Behind(context.Context, eventstore.LogID, []eventstore.LogHead) (through uint64, anything bool, err error) {
	return 0, false, nil
}

func (w wholeTopic) Mirrored(ctx context.Context, tell func(context.Context, eventstore.Dot) error) error {
	state, err := w.store.Log(ctx)
	if err == nil && state.Seq > 0 {
		err = tell(ctx, eventstore.Dot{Log: state.ID, Seq: state.Seq})
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// serve runs a site, with events, for the sites named, on an address.
func serve(t *testing.T, store *memstore.Store, name, addr string, named ...string) (listening string, stop func()) {
	t.Helper()
	return serveFor(t, store, name, addr, func() []string { return named })
}

// serveFor is serve for sites that may change.
func serveFor(t *testing.T, store *memstore.Store, name, addr string, named func() []string) (listening string, stop func()) {
	t.Helper()
	site, err := replication.NewSite(replication.Options{
		Config: replication.Config{Site: name, Heartbeat: 5 * time.Millisecond}, Store: store, Topic: wholeTopic{store},
	})
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	service := &peers.Service{Site: site, Name: name, Peers: named, Log: store.Log}
	sitesv1.RegisterSitesServer(s, service)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := site.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { _ = s.Serve(l) })
	stop = sync.OnceFunc(func() {
		cancel()
		s.Stop()
		if err := service.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	t.Cleanup(stop)
	// Until it runs, a site answers nobody.
	if _, err := site.Overview(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), stop
}

func dial(t *testing.T, site, addr string) *peers.Peer {
	t.Helper()
	p, err := peers.Dial(site, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func newStore(t *testing.T, name string, batches int) *memstore.Store {
	t.Helper()
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}})
	for range batches {
		if _, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("cart", "1"),
			Events: []eventstore.Event{{Type: "cart.changed.v1", Payload: make([]byte, 400), Tags: []string{"customer:1"}}, {Type: "cart.changed.v1", Payload: make([]byte, 600)}},
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func frameOf(e *eventstore.Recorded) []byte {
	return eventstore.AppendFrame(nil, e, eventstore.AppendContent(nil, e))
}

// What is pulled over the wire is what the store has, in whole batches; a site that is not named gets nothing, and what is not
// held is not found.
func TestPull(t *testing.T) {
	store := newStore(t, "b", 400)
	addr, _ := serve(t, store, "b", "127.0.0.1:0", "a")
	log := eventstore.LogID{Site: "b", Incarnation: 1}
	var want []eventstore.Recorded
	var chains []eventstore.Hash
	for e, err := range store.ReadLog(t.Context(), log, 0) {
		if err != nil {
			t.Fatal(err)
		}
		chains = append(chains, e.Chain)
		want = append(want, e)
	}
	a := dial(t, "a", addr)
	var chain eventstore.Hash
	var got []eventstore.Recorded
	for deadline := time.Now().Add(time.Minute); len(got) == 0; time.Sleep(time.Millisecond) { // until its topic is known to have it
		if time.Now().After(deadline) {
			t.Fatal("b gives nothing")
		}
		var err error
		if chain, got, err = a.Pull(t.Context(), replication.Pull{Site: "b", Log: log, After: 100, Through: 797}); err != nil {
			t.Fatal(err)
		}
	}
	same := slices.EqualFunc(want[100:798], got, func(a, b eventstore.Recorded) bool { return bytes.Equal(frameOf(&a), frameOf(&b)) })
	if !same || chain != chains[99] {
		t.Errorf("after seq 100, up to the batch of seq 797, %d events come, the same: %t, with chain %x", len(got), same, chain)
	}
	for name, wrong := range map[string]struct {
		from string
		pull replication.Pull
		code codes.Code
	}{
		"not named":   {"c", replication.Pull{Log: log, Through: 10}, codes.PermissionDenied},
		"beyond":      {"a", replication.Pull{Log: log, After: 5000, Through: 5010}, codes.Unknown}, // the server makes a NotFound of it
		"another log": {"a", replication.Pull{Log: eventstore.LogID{Site: "x", Incarnation: 1}, After: 1, Through: 2}, codes.Unknown},
	} {
		if _, events, err := dial(t, wrong.from, addr).Pull(t.Context(), wrong.pull); status.Code(err) != wrong.code || len(events) > 0 {
			t.Errorf("%s: %d events and %v", name, len(events), err)
		}
	}
}

// Both ends of a stream hear each other, again after the server has gone and come back; who calls itself otherwise, or is not
// named, is refused.
func TestMeet(t *testing.T) {
	store := newStore(t, "b", 1)
	addr, stop := serve(t, store, "b", "127.0.0.1:0", "a")
	mine := replication.Heartbeat{
		Site: "a", Log: eventstore.LogID{Site: "a", Incarnation: 7}, Wall: time.Now(),
		Heads: []eventstore.LogHead{{Log: eventstore.LogID{Site: "b", Incarnation: 1}, Seq: 2, HLC: 3}},
	}
	a := dial(t, "a", addr)
	meet := func(a *peers.Peer, say replication.Heartbeat) (heard replication.Heartbeat, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		beats := make(chan replication.Heartbeat, 1)
		beats <- say
		err = a.Meet(ctx, beats, func(_ context.Context, h replication.Heartbeat) error {
			if heard = h; len(h.Heads) > 0 && h.Heads[0].Seq == 2 {
				return context.Canceled
			}
			return nil
		})
		return heard, err
	}
	for i := range 2 {
		heard, err := meet(a, mine)
		for ; status.Code(err) == codes.Unavailable; heard, err = meet(a, mine) {
			time.Sleep(time.Millisecond)
		}
		own, storeErr := store.Heads(t.Context())
		if storeErr != nil {
			t.Fatal(storeErr)
		}
		if heard.Site != "b" || !heard.Direct || time.Since(heard.Wall).Abs() > time.Minute || cmp.Diff(own, heard.Heads) != "" {
			t.Errorf("a hears %+v (%v)", heard, err)
		}
		if i == 0 {
			stop()
			if _, err := meet(a, mine); status.Code(err) != codes.Unavailable {
				t.Errorf("a server that is gone: %v", err)
			}
			_, stop = serve(t, store, "b", addr, "a")
		}
	}
	other := mine
	other.Site = "c"
	if _, err := meet(a, other); err == nil || !strings.Contains(err.Error(), `site "c" is not one of those`) {
		t.Errorf("a site that is not named: %v", err)
	}
	other.Site = "a"
	other.Log.Site = "c"
	if _, err := meet(a, other); err == nil || !strings.Contains(err.Error(), "names log") {
		t.Errorf("a site that speaks of another's log as its own: %v", err)
	}
}

// A stream with a site that has left ends with the next that it says.
func TestSiteThatHasLeftIsHeardNoMore(t *testing.T) {
	store := newStore(t, "b", 1)
	var left atomic.Bool
	addr, _ := serveFor(t, store, "b", "127.0.0.1:0", func() []string {
		if left.Load() {
			return nil
		}
		return []string{"a"}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	beats := make(chan replication.Heartbeat, 1)
	say := func() {
		beats <- replication.Heartbeat{Site: "a", Log: eventstore.LogID{Site: "a", Incarnation: 1}, Wall: time.Now()}
	}
	say()
	err := dial(t, "a", addr).Meet(ctx, beats, func(context.Context, replication.Heartbeat) error {
		if !left.Swap(true) {
			say()
		}
		return nil
	})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), `site "a" is not one of those`) {
		t.Errorf("the stream ends with %v, want it refused", err)
	}
}

// run runs a site until the test ends.
func run(t *testing.T, site *replication.Site) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := site.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// What a site has of a log it knows to exist, also when it has heard nobody since its start.
func TestWhatIsHereIsKnown(t *testing.T) {
	store := newStore(t, "bj", 1)
	var others []eventstore.Recorded
	for e, err := range newStore(t, "sh", 2).ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Chain: true}) {
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, e)
	}
	if _, err := store.Receive(t.Context(), others); err != nil {
		t.Fatal(err)
	}
	site, err := replication.NewSite(replication.Options{Config: replication.Config{Site: "bj"}, Store: store, Topic: wholeTopic{store}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, site)
	service := &peers.Service{Site: site, Name: "bj", Log: store.Log, Comparer: replication.NewComparer(site, replication.ComparerOptions{})}
	status, err := service.GetSites(t.Context(), &sitesv1.GetSitesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if l := status.GetLogs(); len(l) != 1 || l[0].GetHeld() != 4 || l[0].GetKnown() != 4 {
		t.Errorf("of the other site's log it is said: %v; want 4 events here, and known", l)
	}
}

// Who compares a log is told which parameters are missing, and what is not there.
func TestCompareLogAskedWrongly(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	site, err := replication.NewSite(replication.Options{Config: replication.Config{Site: "bj"}, Store: store, Topic: wholeTopic{store}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, site)
	service := &peers.Service{Site: site, Name: "bj", Log: store.Log}
	for _, c := range []struct {
		log, site string
		want      error
		names     []string
	}{
		{"", "", eventstore.ErrInvalid, []string{"log is empty", "site is empty"}},
		{"shard-00@bj/1", "", eventstore.ErrInvalid, []string{"site is empty"}},
		{"shard-00@sz/1", "sh", eventstore.ErrNotFound, []string{"shard-00@sz/1"}},
	} {
		_, err := service.CompareLog(t.Context(), &sitesv1.CompareLogRequest{Log: c.log, Site: c.site})
		for _, name := range c.names {
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), name) {
				t.Errorf("log %q, site %q: %v, want %v and %q", c.log, c.site, err, c.want, name)
			}
		}
	}
	if _, err := (&peers.Service{Name: "bj"}).RepairLog(t.Context(), &sitesv1.RepairLogRequest{}); !errors.Is(err, eventstore.ErrUnsupported) {
		t.Errorf("without other sites: %v, want ErrUnsupported", err)
	}
}

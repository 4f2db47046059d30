package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// memTopic is the topic of a site in memory: what the store has of its own log, up to most.
type memTopic struct {
	store *memstore.Store
	ends  []eventstore.LogHead
	most  atomic.Uint64
}

func newMemTopic(store *memstore.Store) *memTopic {
	m := &memTopic{store: store}
	m.most.Store(^uint64(0))
	return m
}

func (m *memTopic) Ends(context.Context, func()) ([]eventstore.LogHead, error) { return m.ends, nil }

func (*memTopic) Behind(context.Context, eventstore.LogID, []eventstore.LogHead) (through uint64, anything bool, err error) {
	return 0, false, nil
}

func (m *memTopic) Mirrored(ctx context.Context, tell func(context.Context, eventstore.Dot) error) error {
	sub, err := m.store.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{})
	if err != nil {
		return err
	}
	defer sub.Close()
	state, err := m.store.Log(ctx)
	for err == nil {
		var chunk eventstore.Chunk
		if chunk, err = sub.Next(ctx); err == nil && chunk.Seq > 0 {
			err = tell(ctx, eventstore.Dot{Log: state.ID, Seq: min(chunk.Seq, m.most.Load())})
		}
	}
	return err
}

// memLink is a link over the topic of another site in memory. While it is cut it brings nothing.
type memLink struct {
	of  *memstore.Store
	cut atomic.Bool
	// brought counts the events that were taken from it.
	brought atomic.Uint64
}

func (l *memLink) Follow(ctx context.Context, held func(context.Context) ([]eventstore.LogHead, error),
	events func(context.Context, []eventstore.Recorded) error, _ func(context.Context, eventstore.LogHead) error,
) error {
	state, err := l.of.Log(ctx)
	if err != nil {
		return err
	}
	heads, err := held(ctx)
	if err != nil {
		return err
	}
	sub, err := l.of.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{MaxChunk: 100})
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		own := slices.DeleteFunc(slices.Clone(chunk.Events), func(e eventstore.Recorded) bool {
			return e.Dot.Log != state.ID || slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == e.Dot.Log && h.Seq >= e.Dot.Seq })
		})
		if l.cut.Load() {
			return errors.New("the link is cut")
		}
		if len(own) == 0 {
			continue
		}
		if err := events(ctx, own); err != nil {
			return err
		}
		l.brought.Add(uint64(len(own)))
	}
}

// lazyPeer is a site that is made later than those that name it, and can be away.
type lazyPeer struct {
	site atomic.Pointer[Site]
	away atomic.Bool
}

var errAway = errors.New("the site is away")

func (p *lazyPeer) Pull(ctx context.Context, pull Pull) (eventstore.Hash, []eventstore.Recorded, error) {
	if p.away.Load() {
		return eventstore.Hash{}, nil, errAway
	}
	return p.site.Load().Pull(ctx, pull)
}

func (p *lazyPeer) Meet(ctx context.Context, beats <-chan Heartbeat, heard func(context.Context, Heartbeat) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mine := make(chan Heartbeat)
	go func() {
		defer close(mine)
		for {
			select {
			case h := <-beats:
				if p.away.Load() {
					return
				}
				select {
				case mine <- h:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return p.site.Load().Meet(ctx, mine, func(ctx context.Context, h Heartbeat) error {
		if p.away.Load() {
			return errAway
		}
		return heard(ctx, h)
	})
}

// rig is several sites in one process.
type rig struct {
	names  []string
	stores map[string]*memstore.Store
	topics map[string]*memTopic
	links  map[string]map[string]*memLink  // by who has it and whose it is
	peers  map[string]map[string]*lazyPeer // the same
	sites  map[string]*Site
}

func newRig(names ...string) *rig {
	r := &rig{
		names: names, stores: map[string]*memstore.Store{}, topics: map[string]*memTopic{}, links: map[string]map[string]*memLink{},
		peers: map[string]map[string]*lazyPeer{}, sites: map[string]*Site{},
	}
	for _, name := range names {
		r.stores[name] = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}})
		r.topics[name] = newMemTopic(r.stores[name])
	}
	for _, name := range names {
		r.links[name], r.peers[name] = map[string]*memLink{}, map[string]*lazyPeer{}
		for _, other := range names {
			if other != name {
				r.links[name][other], r.peers[name][other] = &memLink{of: r.stores[other]}, &lazyPeer{}
			}
		}
	}
	return r
}

// start makes and runs all sites until the test ends.
func (r *rig) start(t *testing.T, change func(name string, o *Options)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, name := range r.names {
		o := Options{
			Config: Config{Site: name, Heartbeat: 10 * time.Millisecond, GapTimer: 10 * time.Millisecond, Suspect: 200 * time.Millisecond},
			Store:  r.stores[name], Topic: r.topics[name], Links: map[string]Link{}, Peers: map[string]Peer{}, MaxBackoff: 20 * time.Millisecond,
		}
		for other, link := range r.links[name] {
			o.Links[other] = link
			o.Peers[other] = r.peers[name][other]
		}
		if change != nil {
			change(name, &o)
		}
		site, err := NewSite(o)
		if err != nil {
			t.Fatal(err)
		}
		r.sites[name] = site
		for _, other := range r.names {
			if other != name {
				r.peers[other][name].site.Store(site)
			}
		}
	}
	for _, name := range r.names {
		running.Go(func() {
			if err := r.sites[name].Run(ctx); err != nil {
				t.Errorf("site %s ends with %v", name, err)
			}
		})
	}
}

// cut cuts a site off from all others, or joins it again.
func (r *rig) cut(name string, cut bool) {
	for _, other := range r.names {
		if other == name {
			continue
		}
		r.links[name][other].cut.Store(cut)
		r.links[other][name].cut.Store(cut)
		r.peers[name][other].away.Store(cut)
		r.peers[other][name].away.Store(cut)
	}
}

func (r *rig) write(t *testing.T, name, stream string, events, size int) {
	t.Helper()
	proposed := make([]eventstore.Event, events)
	for i := range proposed {
		proposed[i].Type, proposed[i].Payload = "cart.changed.v1", bytes.Repeat([]byte{1}, size)
	}
	r.until(t, "site "+name+" takes writes", func() bool { return r.sites[name].Writable() == nil })
	if _, err := r.stores[name].Append(t.Context(), eventstore.Request{
		Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("cart", stream), Events: proposed}},
	}); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) heads(t *testing.T, name string) string {
	t.Helper()
	heads, err := r.stores[name].Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(slices.DeleteFunc(heads, func(h eventstore.LogHead) bool { return h.Seq == 0 }))
}

// until waits for something that must come.
func (r *rig) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			for _, name := range r.names {
				o, err := r.sites[name].Overview(t.Context())
				t.Logf("%s holds %s and says %+v (%v)", name, r.heads(t, name), o, err)
			}
			t.Fatalf("it never came that %s", what)
		}
	}
}

// Three sites write at once, one of them cut off for a while and one link dead all along: all hold the same events in the
// end, with the same chains, and know that of each other. Shows R1.
func TestSitesConverge(t *testing.T) {
	r := newRig("a", "b", "c")
	r.links["c"]["a"].cut.Store(true) // c has what a wrote from b, or asks a
	r.start(t, nil)
	for i := range 30 {
		switch i {
		case 10:
			r.cut("b", true)
		case 15:
			r.until(t, "b is isolated", func() bool {
				o, err := r.sites["b"].Overview(t.Context())
				return err == nil && o.Mode == Isolated
			})
		case 20:
			r.cut("b", false)
			r.links["c"]["a"].cut.Store(true)
		}
		for _, name := range r.names {
			r.write(t, name, fmt.Sprint(i%3), 1+i%4, 10)
		}
	}
	r.until(t, "all hold the same", func() bool {
		return r.heads(t, "a") == r.heads(t, "b") && r.heads(t, "b") == r.heads(t, "c")
	})
	r.until(t, "all are normal", func() bool {
		return !slices.ContainsFunc(r.names, func(name string) bool {
			o, err := r.sites[name].Overview(t.Context())
			return err != nil || o.Mode != Normal || len(o.Alarms) > 0
		})
	})
	heads, err := r.stores["a"].Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heads {
		if err := r.sites[h.Log.Site].Await(t.Context(), &eventstore.Receipt{Dot: eventstore.Dot{Log: h.Log, Seq: h.Seq}}); err != nil {
			t.Errorf("%s does not know that others have it up to %d: %v", h.Log, h.Seq, err)
		}
	}
	if r.links["c"]["a"].brought.Load() > 0 {
		t.Error("the dead link brought something")
	}
}

// A site gives nothing of its own log that is not in its topic, and a batch whole or not at all. Shows R2.
func TestNothingLeavesBeforeTheTopicHasIt(t *testing.T) {
	r := newRig("a", "b")
	r.topics["a"].most.Store(3)
	r.links["b"]["a"].cut.Store(true)
	r.start(t, nil)
	for range 3 {
		r.write(t, "a", "1", 2, 10)
	}
	log := eventstore.LogID{Site: "a", Incarnation: 1}
	r.until(t, "b has what the topic has whole", func() bool {
		o, err := r.sites["b"].Overview(t.Context())
		return err == nil && slices.ContainsFunc(o.Logs, func(l LogStatus) bool { return l.Log == log && l.Known == 3 && l.Held == 2 })
	})
	_, events, err := r.sites["a"].Pull(t.Context(), Pull{Log: log, Through: 100})
	if err != nil || len(events) != 2 {
		t.Errorf("a gives %d events (%v), want the 2 of the batch that its topic has whole", len(events), err)
	}
	if _, _, err := r.sites["a"].Pull(t.Context(), Pull{Log: log, After: 99, Through: 100}); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("asked for what follows an event that it has not, a answers %v", err)
	}
	if err := r.sites["a"].Await(t.Context(), &eventstore.Receipt{Dot: eventstore.Dot{Log: log, Seq: 2}}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.sites["a"].Await(ctx, &eventstore.Receipt{Dot: eventstore.Dot{Log: log, Seq: 3}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("b is said to hold seq 3: %v", err)
	}
}

// stuckStore receives nothing until it is let go.
type stuckStore struct {
	*memstore.Store
	open chan struct{}
}

func (s stuckStore) Receive(ctx context.Context, events []eventstore.Recorded) (eventstore.Position, error) {
	select {
	case <-s.open:
		return s.Store.Receive(ctx, events)
	case <-ctx.Done():
		return eventstore.Position{}, ctx.Err()
	}
}

// A link reads no further ahead of a store that does not keep up than it may, by number and by size. Shows R3.
func TestLinksAreHeldBack(t *testing.T) {
	for name, limit := range map[string]struct{ events, bytes int }{"events": {events: 250}, "bytes": {bytes: 25_000}} {
		t.Run(name, func(t *testing.T) {
			r := newRig("a", "b")
			for range 200 {
				if _, err := r.stores["a"].Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
					Stream: eventstore.Stream("cart", "1"), Events: slices.Repeat([]eventstore.Event{{Type: "cart.changed.v1", Payload: make([]byte, 100)}}, 10),
				}}}); err != nil {
					t.Fatal(err)
				}
			}
			open := make(chan struct{})
			r.start(t, func(name string, o *Options) {
				if name == "b" {
					o.Store, o.MaxAhead, o.MaxAheadBytes = stuckStore{r.stores["b"], open}, limit.events, limit.bytes
					delete(o.Peers, "a") // what is missing is not pulled
				}
			})
			link := r.links["b"]["a"]
			r.until(t, "the link has brought what it may", func() bool { return link.brought.Load() >= 200 })
			beats, leave := r.sites["b"].subscribe()
			for range 5 { // the time in which it could bring more
				<-beats
			}
			leave()
			// It brings pieces of 100 events, and the next would be one too many.
			if got := link.brought.Load(); got != 200 {
				t.Errorf("the link has brought %d events, want 200", got)
			}
			close(open)
			r.until(t, "b has everything", func() bool { return r.heads(t, "a") == r.heads(t, "b") })
		})
	}
}

// A site whose topic has events that its log lacks takes no writes, and ends with the life in which it has to go on. Shows R4.
func TestSiteBeginsAnotherLife(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "a", Incarnation: 3}})
	topic := newMemTopic(store)
	topic.ends = []eventstore.LogHead{{Log: eventstore.LogID{Site: "a", Incarnation: 3}, Seq: 1}}
	site, err := NewSite(Options{Config: Config{Site: "a"}, Store: store, Topic: topic, Peers: map[string]Peer{"b": &lazyPeer{}}})
	if err != nil {
		t.Fatal(err)
	}
	if site.Writable() == nil {
		t.Error("a site that does not run takes writes")
	}
	site.o.Peers["b"].(*lazyPeer).site.Store(site)
	var life *LifeError
	if err := site.Run(t.Context()); !errors.As(err, &life) || life.Incarnation != 4 {
		t.Errorf("the site ends with %v, want life 4", err)
	}
	if site.Writable() == nil {
		t.Error("a site that has ended takes writes")
	}
}

// A site that has lost its disk together with its topic looks like a new one. It gives no dot again: it waits for the others, who
// know, and goes on in another life. R4.
func TestLostDiskIsNoNewSite(t *testing.T) {
	r := newRig("a", "b")
	before := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "a", Incarnation: 1}})
	if _, err := before.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	for e, err := range before.ReadLog(t.Context(), eventstore.LogID{Site: "a", Incarnation: 1}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.stores["b"].Receive(t.Context(), []eventstore.Recorded{e}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range r.names {
		other := map[string]string{"a": "b", "b": "a"}[name]
		site, err := NewSite(Options{
			Config: Config{Site: name, Heartbeat: 10 * time.Millisecond}, Store: r.stores[name], Topic: r.topics[name],
			Links: map[string]Link{other: r.links[name][other]}, Peers: map[string]Peer{other: r.peers[name][other]},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.sites[name] = site
		r.peers[other][name].site.Store(site)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if _, err := r.sites["a"].Overview(ctx); err != nil { // a is there first
			t.Errorf("a does not run: %v", err)
		}
		if err := r.sites["b"].Run(ctx); err != nil {
			t.Errorf("b ends with %v", err)
		}
	})
	ended := make(chan error, 1)
	running.Go(func() { ended <- r.sites["a"].Run(ctx) })
	for {
		select {
		case err := <-ended:
			var life *LifeError
			if !errors.As(err, &life) || life.Incarnation != 2 {
				t.Errorf("the site ends with %v, want life 2", err)
			}
			return
		default:
			if r.sites["a"].Writable() == nil {
				t.Fatal("a site that has lost its disk takes writes in the life that it had")
			}
		}
	}
}

// A site without events whose topic is there, and has none either, may have begun on the empty disk of one that had: it is a new one only
// when all others are heard, as where there is no topic. R4.
func TestTopicWithoutEventsTellsNothing(t *testing.T) {
	for _, ends := range [][]eventstore.LogHead{nil, {{Log: eventstore.LogID{Site: "a", Incarnation: 1}}}} {
		store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "a", Incarnation: 1}})
		topic := newMemTopic(store)
		topic.ends = ends
		peer := &lazyPeer{}
		peer.away.Store(true)
		site, err := NewSite(Options{
			Config: Config{Site: "a", Heartbeat: 10 * time.Millisecond, ClockWait: -1, TopicPatience: 200 * time.Millisecond},
			Store:  store, Topic: topic, Peers: map[string]Peer{"b": peer},
		})
		if err != nil {
			t.Fatal(err)
		}
		peer.site.Store(site)
		ended := make(chan error, 1)
		go func() { ended <- site.Run(t.Context()) }()
		for begun := time.Now(); ; {
			select {
			case err := <-ended:
				var life *LifeError
				if !errors.As(err, &life) || life.Incarnation < 3 {
					t.Errorf("the topic ends with %v, and the site with %v; want a life that nobody has heard of", ends, err)
				}
			default:
				if site.Writable() != nil && time.Since(begun) < time.Minute {
					continue
				}
				t.Fatalf("the topic ends with %v, no other site was heard, and after %s the site takes writes: %t", ends, time.Since(begun), site.Writable() == nil)
			}
			break
		}
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/queries"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/peers"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// LifeError is what Run ends with when the log has to go on in another life: the node is closed then, and opened again with
// Config.Life as it says.
type LifeError = replication.LifeError

// sitesPart is what joins the node with other sites. It is empty where there are none.
type sitesPart struct {
	name string // of this site
	site *replication.Site
	// comparer compares the store with those of the other sites; nil where there are none.
	comparer *replication.Comparer
	service  *peers.Service // nil before it is offered
	log      *slog.Logger
	// given are the sites that this one was started with; what is on record of where those are found does not count.
	given     map[string]bool
	readOnly  *readOnly
	looks     error                                 // why nothing is recorded at all (Config.Look); nil: it is
	auto      bool                                  // sites take over from each other by themselves
	registrar atomic.Pointer[replication.Registrar] // nil before the store can be asked
	// escrowed are the categories in which the site decides on rights of its own.
	escrowed map[string]bool

	// earlier says how many events of earlier lives of the site's log are here; nil in the first one.
	earlier func(context.Context) (uint64, error)

	topicRead chan struct{} // closed when the own topic has been read as it was found
	once      sync.Once
	ready     chan struct{} // closed when what the node itself records at a start is recorded

	telling sync.Mutex // held while the site is told who takes part, so that what was read last is told last

	mu      sync.Mutex            // guards what follows
	known   map[string]joinedPeer // by name, the other sites
	closing []*peers.Peer         // all whose connections are not ended yet
}

// openSites makes the site of a node that has others.
func openSites(n *Node) (*sitesPart, error) {
	p := &sitesPart{
		name: n.config.Site, log: n.log, auto: n.config.Takeover == TakeoverAuto, topicRead: make(chan struct{}), ready: make(chan struct{}), given: map[string]bool{}, known: map[string]joinedPeer{},
	}
	var err error
	if p.readOnly, err = openReadOnly(n.path(readOnlyFile)); err != nil {
		return p, err
	}
	if n.config.Look {
		p.looks = errLooks(n.config.Data)
	}
	if len(n.config.Peers) == 0 {
		return p, nil
	}
	o := replication.Options{
		Config: replication.Config{Site: n.config.Site, Begun: n.config.Life != 0, MaxSkew: n.config.MaxSkew, Leases: true},
		Store:  n.local, Clock: n.steady, Topic: ownTopic{n.kafka.mirror, p}, Logger: n.log,
		Links: map[string]replication.Link{}, Peers: map[string]replication.Peer{}, Accord: p, Recorder: n.cells, Homed: n.cells.fence.Homed, TakenIn: n.cells.fence.TakenIn,
		Alarms: lastAlarms(n.path(alarmsFile), n.log), KeepAlarms: func(all []replication.Alarm) error { return keepAlarms(n.path(alarmsFile), all) },
	}
	for _, other := range n.config.Peers {
		link, peer, err := p.dial(other)
		if err != nil {
			return p, err
		}
		p.given[other.Site] = true
		o.Links[other.Site], o.Peers[other.Site] = link, peer
	}
	if state, err := n.local.Log(context.Background()); err != nil {
		return p, fmt.Errorf("ask the store: %w", err)
	} else if state.ID.Incarnation > 1 {
		link, err := kafkalog.NewLink(kafkalog.Options{Brokers: n.kafka.options.Brokers, Topic: n.kafka.options.Topic, Logger: n.log})
		if err != nil {
			return p, err
		}
		o.Links[n.config.Site] = earlierLives{link, state.ID}
		p.earlier = countEarlier(n.local, state.ID)
	}
	if p.site, err = replication.NewSite(o); err == nil {
		n.cells.fence.Watch(p.site.AtHome)
		p.comparer = n.comparer(p.site)
	}
	return p, err
}

// Terms implements replication.Accord.
func (p *sitesPart) Terms() replication.Terms { return p.registrar.Load().Terms() }

// Heard implements replication.Accord.
func (p *sitesPart) Heard(site string, t *replication.Terms) error {
	return p.registrar.Load().Heard(site, t)
}

// Met implements replication.Accord.
func (p *sitesPart) Met(site string, t *replication.Terms) error {
	return p.registrar.Load().Met(site, t)
}

// earlierLives is a link over the site's own topic, for what the log has lost of its earlier lives. It stops where the
// present one begins.
type earlierLives struct {
	*kafkalog.Link
	present eventstore.LogID
}

// Follow implements replication.Link.
func (l earlierLives) Follow(ctx context.Context, held func(context.Context) ([]eventstore.LogHead, error),
	events func(context.Context, []eventstore.Recorded) error, said func(context.Context, eventstore.LogHead) error,
) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	err := l.Link.Follow(reading, held, func(ctx context.Context, e []eventstore.Recorded) error {
		if e[len(e)-1].Dot.Log == l.present {
			stop()
		}
		return events(ctx, e)
	}, func(ctx context.Context, h eventstore.LogHead) error {
		if h.Log == l.present {
			stop()
		}
		return said(ctx, h)
	})
	if reading.Err() == nil {
		return err
	}
	<-ctx.Done() // until it is to be read again
	return ctx.Err()
}

// ownTopic is the topic of the node's mirror, which does not begin before it was read.
type ownTopic struct {
	*kafkalog.Mirror
	part *sitesPart
}

// Ends implements replication.OwnTopic.
func (t ownTopic) Ends(ctx context.Context, answered func()) ([]eventstore.LogHead, error) {
	heads, err := t.Mirror.Ends(ctx, answered)
	if err == nil {
		t.part.once.Do(func() { close(t.part.topicRead) })
	}
	return heads, err
}

// mayMirror returns when the mirror may begin; where there are no other sites that is at once.
func (p *sitesPart) mayMirror(ctx context.Context) error {
	if p.site == nil {
		return nil
	}
	select {
	case <-p.topicRead:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run replicates until ctx ends, or with a *LifeError. first is done once the log may be written, before anybody else writes.
func (p *sitesPart) run(ctx context.Context, first func(context.Context) error) error {
	if p.site == nil {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var recording sync.WaitGroup
	defer recording.Wait()
	defer cancel(nil)
	recording.Go(func() {
		if err := p.awaitWritable(ctx); err != nil {
			return
		}
		if err := first(ctx); err != nil {
			cancel(err)
			return
		}
		close(p.ready)
	})
	err := p.site.Run(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// awaitWritable returns when the site may write.
func (p *sitesPart) awaitWritable(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for p.site.Writable() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// awaitWhole returns when the site has all that was born there in earlier lives of its log; where there are no other sites that is at
// once. Again and again meanwhile it says what is missing.
func (p *sitesPart) awaitWhole(ctx context.Context, waits func(why error)) error {
	if p.site == nil {
		return nil
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		why := p.site.Whole()
		if why == nil {
			return nil
		}
		waits(why)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// countEarlier returns what counts the events that a store has of earlier lives of its log.
func countEarlier(store eventstore.Replica, present eventstore.LogID) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (events uint64, err error) {
		heads, err := store.Heads(ctx)
		for _, h := range heads {
			if h.Log.Site == present.Site && h.Log.Shard == present.Shard && h.Log != present {
				events += h.Seq
			}
		}
		return events, err
	}
}

// moreCame is how often it is looked whether more of an earlier life has come.
const moreCame = time.Second

// awaitMore returns nil when there is more of earlier lives than so many events, and no more is on its way.
func (p *sitesPart) awaitMore(ctx context.Context, than uint64) error {
	tick := time.NewTicker(moreCame)
	defer tick.Stop()
	for last := than; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now, err := p.earlier(ctx)
		if err != nil {
			return fmt.Errorf("ask what is here of earlier lives of the log: %w", err)
		}
		if now > than && now == last && p.site.Whole() == nil {
			return nil
		}
		last = now
	}
}

// refused returns nil when the node takes writes, else an error that matches eventstore.ErrUnavailable.
func (p *sitesPart) refused() error {
	if p.site == nil {
		return nil
	}
	if err := p.site.Writable(); err != nil {
		return fmt.Errorf("%w: the site takes no writes at present: %w", eventstore.ErrUnavailable, err)
	}
	select {
	case <-p.ready:
		return nil
	default:
		return fmt.Errorf("%w: the site takes no writes yet: it is about to register its schemas", eventstore.ErrUnavailable)
	}
}

// refuses returns nil when the node takes a request, else an error that matches eventstore.ErrUnavailable. What is decided on
// rights in an escrow waits until it is known which of them the site used in earlier lives of its log.
func (p *sitesPart) refuses(ctx context.Context, r *eventstore.Request) error {
	if p.looks != nil {
		return p.looks
	}
	if err := p.readOnly.refuses(ctx, r); err != nil {
		return err
	}
	if p.site == nil {
		return nil
	}
	if err := p.refused(); err != nil {
		return err
	}
	if err := p.refusesLeft(r); err != nil {
		return err
	}
	for i := range r.Appends {
		if err := p.forgotten(r.Appends[i].Stream.Category); err != nil {
			return err
		}
	}
	return nil
}

// forgotten returns nil when the site knows which rights of a category it has used, else an error that matches
// eventstore.ErrUnavailable.
func (p *sitesPart) forgotten(category string) error {
	if p.site == nil || !p.escrowed[category] {
		return nil
	}
	if err := p.site.Whole(); err != nil {
		return fmt.Errorf("%w: %s waits for what the site did in an earlier life of its log: %w", eventstore.ErrUnavailable, category, err)
	}
	return nil
}

// decidable returns nil when commands of a category may be decided on what the log has, else an error that matches
// eventstore.ErrUnavailable. Rights in an escrow that are not back yet would read as rights that the site does not have: it would
// refuse for good what it is to refuse for the moment.
func (p *sitesPart) decidable(category string) error {
	if p.site == nil || !p.escrowed[category] {
		return nil
	}
	if err := p.refused(); err != nil {
		return err
	}
	return p.forgotten(category)
}

// refusesLeft returns an error that matches eventstore.ErrReadOnly when the site takes part no more: nobody would receive what it
// records.
func (p *sitesPart) refusesLeft(r *eventstore.Request) error {
	registrar := p.registrar.Load()
	if registrar == nil || !slices.Contains(registrar.Roster().Left, p.name) {
		return nil
	}
	for i := range r.Appends {
		if !eventstore.IsSystemCategory(r.Appends[i].Stream.Category) {
			return fmt.Errorf("%w: site %s has left, others receive no more of it: have it join again (tributary sites join, asked at another site)", eventstore.ErrReadOnly, p.name)
		}
	}
	return nil
}

// escrows has the node refuse what is decided on rights in an escrow while it may have forgotten that it used them. It comes
// before run.
func (p *sitesPart) escrows(resolvers map[string]commands.ResolverKind) {
	p.escrowed = map[string]bool{}
	for category, kind := range resolvers {
		p.escrowed[category] = kind == commands.ByEscrow
	}
}

func (p *sitesPart) close() error {
	if p == nil {
		return nil
	}
	var errs []error
	if p.service != nil {
		errs = append(errs, p.service.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, peer := range p.closing {
		errs = append(errs, peer.Close())
	}
	return errors.Join(errs...)
}

// guarded returns the store with appends refused while the site may not write.
func (p *sitesPart) guarded(s eventstore.Store) eventstore.Store { return &guardedStore{s, p} }

// guardedStore is a store of a site that may not write before it knows that its log is all there, or when an operator says so.
type guardedStore struct {
	eventstore.Store
	sites *sitesPart
}

var _ sealed.Stepped = (*guardedStore)(nil)

// Unwrap returns the store itself.
func (g *guardedStore) Unwrap() eventstore.Store { return g.Store }

// Append implements eventstore.Appender.
func (g *guardedStore) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if err := g.sites.refuses(ctx, &r); err != nil {
		return eventstore.Receipt{}, err
	}
	return g.Store.Append(ctx, r)
}

// Begin implements sealed.Stepped.
func (g *guardedStore) Begin(ctx context.Context, r eventstore.Request) (
	receipt eventstore.Receipt, wait func(context.Context) (eventstore.Receipt, error), err error,
) {
	if err := g.sites.refuses(ctx, &r); err != nil {
		return receipt, nil, err
	}
	if below, ok := g.Store.(sealed.Stepped); ok {
		return below.Begin(ctx, r)
	}
	receipt, err = g.Store.Append(ctx, r)
	return receipt, nil, err
}

// Enqueue implements eventstore.Enqueuer.
func (g *guardedStore) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	if g.sites.site == nil && g.sites.readOnly.reason() == "" {
		eventstore.Enqueue(ctx, g.Store, requests, done)
		return
	}
	taken := make([]eventstore.Request, 0, len(requests))
	places := make([]int, 0, len(requests)) // of those taken
	for i := range requests {
		if err := g.sites.refuses(ctx, &requests[i]); err != nil {
			done(i, eventstore.Answer{Err: err})
			continue
		}
		taken, places = append(taken, requests[i]), append(places, i)
	}
	eventstore.Enqueue(ctx, g.Store, taken, func(i int, a eventstore.Answer) { done(places[i], a) })
}

// registerSites offers what sites say to each other, and of each other.
func (n *Node) registerSites() error {
	s := &peers.Service{
		Site: n.sites.site, Name: n.config.Site, Peers: n.sites.names, Log: n.local.Log, ReadOnly: n.readOnlyFor,
		Comparer: n.sites.comparer, Takeovers: n.cells.takeovers, Models: modelDigester{n},
	}
	if n.kafka.mirror != nil {
		s.Mirrored = func() uint64 { return n.kafka.mirror.Status().Mirrored.Seq }
	}
	if err := n.server.Register(&sitesv1.Cells_ServiceDesc, &cells{part: n.cells}); err != nil {
		return err
	}
	if err := n.server.Register(&sitesv1.Members_ServiceDesc, members{n: n}); err != nil {
		return err
	}
	n.sites.service = s
	n.warnOfHomed(context.Background())
	return n.server.Register(&sitesv1.Sites_ServiceDesc, s)
}

// locate returns where the log holds what a session token of this site, or of another, names.
func (n *Node) locate(ctx context.Context, token eventstore.Vector) (eventstore.Position, error) {
	return queries.Locate(ctx, n.local, n.sites.names(), token, 0)
}

// session returns what makes the session tokens of answers; nil where there is no other site to take them to.
func (p *sitesPart) session(log queries.Log) func(context.Context) (eventstore.Vector, error) {
	if p.site == nil {
		return nil
	}
	return func(ctx context.Context) (eventstore.Vector, error) { return queries.Session(ctx, log) }
}

// siteHealth says whether the site takes writes, and which other sites are heard.
func (n *Node) siteHealth(ctx context.Context) []server.Dependency {
	blocked := n.blockedHealth()
	if n.sites.site == nil {
		return blocked
	}
	own := server.Dependency{Name: "sites", Required: true, Mode: string(replication.Unconfirmed), Up: true}
	if err := n.sites.refused(); err != nil {
		own.Up, own.Problem = false, err.Error()
	}
	o, err := n.sites.site.Overview(ctx)
	if err != nil {
		own.Up, own.Problem = false, err.Error()
		return append(blocked, own)
	}
	own.Mode = string(replication.ModeOf(o.Mode, len(n.blocked()) > 0, n.readOnlyFor() != ""))
	out := append(append([]server.Dependency{own}, blocked...), clockHealth(&o)...)
	if err := n.sites.site.Whole(); err != nil && own.Up {
		out = append(out, server.Dependency{Name: "earlier lives", Mode: "replicated", Problem: err.Error() + "; what is held in escrow is refused here, and sagas wait"})
	}
	for _, p := range o.Peers {
		d := server.Dependency{Name: "site " + p.Site, Mode: n.grpcOf(p.Site), Up: p.Up}
		why := o.Unmet[p.Site]
		if !d.Up {
			d.Problem = "it has not been heard since this site started"
			if p.Heard >= 0 {
				d.Problem = fmt.Sprintf("it was heard last %s ago", p.Heard.Round(time.Second))
			}
			if why != nil {
				d.Problem += " (" + why.Error() + ")"
			}
			if own.Up {
				d.Problem += "; commands go on here"
			}
		} else if why != nil {
			d.Up, d.Problem = false, "what it publishes is not followed: "+why.Error()
		}
		out = append(out, d)
	}
	for _, l := range o.Logs {
		if l.Broken != "" {
			out = append(out, server.Dependency{Name: "log " + l.Log.String(), Mode: "replicated", Problem: l.Broken + "; see docs/sites.md"})
		}
	}
	return append(out, n.comparisonHealth()...)
}

func (n *Node) grpcOf(site string) string {
	other, _ := n.sites.other(site)
	return other.GRPC
}

// blocked says what that is homed is not written at present, and why.
func (n *Node) blocked() []string {
	_, blocked := n.cells.registrar.Differences()
	if len(n.config.Homed) == 0 && len(blocked.Categories) == 0 {
		return nil // nothing is homed
	}
	why := blocked.Reasons()
	if n.sites.site != nil {
		if err := n.sites.site.AtHome(); err != nil {
			why = append(why, "nothing homed is written: "+err.Error())
		}
	}
	return why
}

// blockedHealth says what an operator, or the other sites, keep from being written.
func (n *Node) blockedHealth() (out []server.Dependency) {
	if why := n.sites.readOnly.reason(); why != "" {
		out = append(out, server.Dependency{Name: "writes", Mode: string(replication.ReadOnly), Problem: why})
	}
	if why := n.blocked(); len(why) > 0 {
		out = append(out, server.Dependency{Name: "homed streams", Mode: string(replication.WriteBlocked), Problem: strings.Join(why, "; ")})
	}
	return out
}

// hears reports whether another site is heard at present.
func (p *sitesPart) hears(ctx context.Context, site string) (bool, error) {
	if p.site == nil {
		return false, nil
	}
	o, err := p.site.Overview(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(o.Peers, func(other replication.PeerStatus) bool { return other.Site == site && other.Up }), nil
}

// siteSample is what /metrics says of the sites; nil where there are no others.
func (n *Node) siteSample(ctx context.Context) *server.SitesSample {
	if n.sites.site == nil {
		return nil
	}
	o, err := n.sites.site.Overview(ctx)
	if err != nil {
		return nil
	}
	blocked := n.blocked()
	differences, _ := n.cells.registrar.Differences()
	readOnly := n.readOnlyFor() != ""
	out := &server.SitesSample{
		Mode: string(replication.ModeOf(o.Mode, len(blocked) > 0, readOnly)), Writable: n.sites.refused() == nil && !readOnly, Blocked: len(blocked) > 0,
		ClockAheadSeconds: (o.Clock.Ahead - o.Clock.Behind).Seconds(), ClockJumpSeconds: o.Clock.Jump.Seconds(), FutureSeconds: o.Clock.Future.Seconds(),
		Comparison: n.comparisonSample(),
		Bound:      o.Lease.Bound, LeaseLeft: max(o.Lease.Left.Seconds(), 0), Takeovers: len(n.cells.takeovers()),
	}
	for _, d := range differences {
		out.Differences = append(out.Differences, server.SiteDifference{Site: d.Site, What: d.What})
	}
	for _, l := range o.Logs {
		out.Logs = append(out.Logs, server.SiteLogSample{Log: l.Log.String(), Behind: l.Known - min(l.Held, l.Known), LagSeconds: o.Lag[l.Log].Seconds()})
	}
	for _, p := range o.Peers {
		out.Peers = append(out.Peers, server.PeerSample{Site: p.Site, Up: p.Up, Behind: p.Behind, AheadSeconds: p.Ahead.Seconds()})
	}
	return out
}

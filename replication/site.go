package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Store is the site's own store.
type Store interface {
	eventstore.Replica
	// Log returns what the site's log is called, in its present life.
	Log(ctx context.Context) (eventstore.LogState, error)
	// ChainHere is ChainAt for who cannot wait for an archive: of an event that is archived held is false.
	ChainHere(ctx context.Context, log eventstore.LogID, seq uint64) (chain eventstore.Hash, held bool, err error)
}

// Link brings what another site publishes.
type Link interface {
	// Follow gives the site's events, after those that held says are here, in the order of its topic, and what the topic says
	// of how far it is; until ctx ends, or the topic cannot be followed. It gives the next only when events has returned.
	Follow(ctx context.Context, held func(context.Context) ([]eventstore.LogHead, error),
		events func(context.Context, []eventstore.Recorded) error, said func(context.Context, eventstore.LogHead) error) error
}

// Peer is another site, as far as it can be asked. A *Site is one.
type Peer interface {
	// Pull returns the events of p.Log after p.After, in whole batches of which the last begins at p.Through or before, or fewer;
	// and the log's chain after p.After.
	Pull(ctx context.Context, p Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error)
	// Meet tells the site what comes from beats, and heard what it says itself, until ctx ends or the connection does.
	Meet(ctx context.Context, beats <-chan Heartbeat, heard func(context.Context, Heartbeat) error) error
}

// OwnTopic is the topic that has what is born at the site.
type OwnTopic interface {
	// Ends returns how the topic ends, for each life of the site's log. What keeps it from that is tried again. It calls answered, when
	// that is not nil, each time that the brokers have answered anything on the way.
	Ends(ctx context.Context, answered func()) ([]eventstore.LogHead, error)
	// Behind returns up to which seq the topic has whole batches of an earlier life of the log that can be read, one behind the other, after
	// what is held of it: to the end of the next one at least. Anything is false when nothing is in it, or it is not there.
	Behind(ctx context.Context, log eventstore.LogID, held []eventstore.LogHead) (through uint64, anything bool, err error)
	// Mirrored tells up to which event the topic has the log, each time that it has more, until ctx ends.
	Mirrored(ctx context.Context, tell func(context.Context, eventstore.Dot) error) error
}

// Accord is what sites tell each other beside what they hold. A *Registrar is one.
type Accord interface {
	// Terms are what this site says.
	Terms() Terms
	// Heard takes what another one does. An error that matches ErrForeign keeps the two apart.
	Heard(site string, t *Terms) error
	// Met takes what another one says when this site may have been taken for gone: what that knows has to be known here first.
	Met(site string, t *Terms) error
}

// Options of a Site. Config.Site, Store and Topic are required.
type Options struct {
	// Config is the core's; its Peers are those named below.
	Config

	Store Store
	Topic OwnTopic
	// Links bring what other sites publish, Peers are those sites, by their names.
	Links map[string]Link
	Peers map[string]Peer

	// Clock is the time of day that the store gives events; the site holds it, and has it follow the machine's when other sites agree. Nil
	// means another one.
	Clock *hlc.Steady
	// Alarms are those of before, which a status tells as well; KeepAlarms, when not nil, keeps what there are now, one call at a time.
	Alarms     []Alarm
	KeepAlarms func([]Alarm) error
	// Accord, when not nil, says what has to be the same at all sites, and judges what they say.
	Accord Accord

	// Recorder puts on record what the core has to say about takeovers, and TakenIn is Storage.TakenIn, such as Fence.TakenIn; nil where
	// Config.Leases is not set.
	Recorder Recorder
	TakenIn  func() uint64
	// Homed says whether the streams of a category are written at one site alone; nil: none are.
	Homed func(category string) bool

	// MaxAhead and MaxAheadBytes bound, for each log, what a link may have brought that the store has not received yet: beyond
	// them the link reads no further. Zero means half of MaxWaiting, and 32 MiB of payload.
	MaxAhead, MaxAheadBytes int
	// MaxBackoff bounds the pause between vain attempts; zero means 2 s.
	MaxBackoff time.Duration
	// MaxPeerLag and MaxPeerBehind are how far, in time and in events of the own log, another site may be behind and still be waited
	// for (Available); zero means 5 s and 100,000.
	MaxPeerLag    time.Duration
	MaxPeerBehind uint64
	// Logger is told of alarms, and of links and sites that come and go; nil is silent.
	Logger *slog.Logger
}

// LifeError says that the site's log has to go on in another life: the site stops, its store is given the life, and another
// Site goes on from there. Nothing is lost by that which was not lost before.
type LifeError struct {
	// Log is the log in the life that ends, Incarnation the next one.
	Log         eventstore.LogID
	Incarnation uint32
	// Why says what makes it so.
	Why string
}

// Error says which life comes.
func (e *LifeError) Error() string {
	return fmt.Sprintf("%s has to go on in life %d: %s", e.Log, e.Incarnation, e.Why)
}

// ErrStopped: the site's Run is not running.
var ErrStopped = fmt.Errorf("%w: the site does not run, or begins anew", eventstore.ErrUnavailable)

// Site runs a Core: it carries what comes to it and what it wants done between the site's store, the links and the other
// sites. The core is stepped by one goroutine, which waits for nothing but the store's answers to Storage; each other one
// waits for one thing only:
//
//	link ──► pace ─┐                       ┌─► store.Receive, one for each log
//	peer ── Meet ──┼─► inbox ─► core.Step ─┼─► peer.Pull, one for each log
//	topic ─────────┘                       └─► beats, to whoever meets
//
// Its methods are safe for concurrent use. Run is called once.
type Site struct {
	o    Options
	log  *slog.Logger
	pace *pace

	inbox chan Input
	asks  chan func(*run)
	begun chan struct{} // closed when own is known and the core runs
	ended chan struct{} // closed when Run has returned
	own   eventstore.LogID
	start time.Time
	zero  time.Duration // what the monotonic clock of Options.Clock showed then

	// writable is what keeps the site from writing, whole what keeps it from deciding on what it alone decides.
	writable, whole atomic.Pointer[error]

	home      atomic.Pointer[homeLease]
	grants    atomic.Pointer[[]string] // of the core
	entering  atomic.Bool              // an entry is being put on record
	elsewhere elsewhere

	keeping sync.Mutex // held by who keeps the alarms

	mu    sync.Mutex // guards all below, and the maps of o
	topic inTopic
	beats map[chan Heartbeat]bool
	again map[string]*context.CancelFunc // by site whose topic is followed, has its link begin again
	apart map[string]error               // by site, why nothing of it is taken; nil where it has been heard and may be
	came  map[eventstore.LogID]came
	// spoken is when the topic of a site has brought something last.
	spoken map[string]time.Time
	// troubles are by site and what is done with it.
	troubles map[[2]string]trouble
	alarms   []Alarm
	looks    map[eventstore.LogID]bool // it is looked whether the topic has more of them
}

// NewSite returns a site that is yet to run.
func NewSite(o Options) (*Site, error) {
	if o.Config.Site == "" || o.Store == nil || o.Topic == nil {
		return nil, fmt.Errorf("%w: a site needs a name, a store and a topic", eventstore.ErrInvalid)
	}
	o.Config = o.withDefaults()
	o.Config.Peers = slices.Sorted(maps.Keys(o.Peers))
	links, others := map[string]Link{}, map[string]Peer{} // With and Without change them
	maps.Copy(links, o.Links)
	maps.Copy(others, o.Peers)
	o.Links, o.Peers = links, others
	if o.MaxAhead <= 0 {
		o.MaxAhead = o.MaxWaiting / 2
	}
	if o.MaxAheadBytes <= 0 {
		o.MaxAheadBytes = 32 << 20
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = 2 * time.Second
	}
	if o.MaxPeerLag <= 0 {
		o.MaxPeerLag = 5 * time.Second
	}
	if o.MaxPeerBehind == 0 {
		o.MaxPeerBehind = 100_000
	}
	if o.Clock == nil {
		o.Clock = hlc.NewSteady(hlc.SteadyOptions{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Site{
		o: o, log: o.Logger, pace: newPace(o.MaxAhead, o.MaxAheadBytes),
		inbox: make(chan Input, 16), asks: make(chan func(*run)), begun: make(chan struct{}), ended: make(chan struct{}),
		elsewhere: elsewhere{waits: map[chan struct{}]kept{}},
		beats:     map[chan Heartbeat]bool{}, again: map[string]*context.CancelFunc{}, apart: map[string]error{}, came: map[eventstore.LogID]came{}, troubles: map[[2]string]trouble{}, spoken: map[string]time.Time{},
		looks:  map[eventstore.LogID]bool{},
		alarms: slices.Clone(o.Alarms),
	}
	unknown := fmt.Errorf("%w: the site has not begun", ErrUnconfirmed)
	s.setTaken(unknown, unknown)
	s.home.Store(&homeLease{why: unknown})
	s.grants.Store(&[]string{})
	return s, nil
}

// Run replicates until ctx ends, and then returns nil. It returns early with a *LifeError when the log has to go on in
// another life, and with the store's error when that cannot be asked. Brokers and sites that are away only make it wait.
func (s *Site) Run(ctx context.Context) (err error) {
	defer func() {
		s.setTaken(ErrStopped, ErrStopped)
		s.home.Store(&homeLease{why: ErrStopped})
		close(s.ended)
	}()
	state, err := s.o.Store.Log(ctx)
	if err != nil {
		return fmt.Errorf("replicate: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var carriers sync.WaitGroup
	defer carriers.Wait()
	defer cancel()
	s.o.Clock.Hold()
	s.own, s.start = state.ID, time.Now()
	_, s.zero, _ = s.o.Clock.Read()
	storage := &storage{ctx: ctx, store: s.o.Store, takenIn: s.o.TakenIn, log: s.log, damaged: map[eventstore.LogID]damage{}}
	r := &run{Site: s, ctx: ctx, carriers: &carriers, storage: storage, random: rand.New(source{}), with: map[string]context.CancelFunc{}} //nolint:gosec // it chooses whom to ask
	r.core = New(s.o.Config, state.ID, storage, s.instant())
	if storage.err != nil {
		return fmt.Errorf("replicate: %w", storage.err)
	}
	close(s.begun)
	r.carry()
	return r.loop()
}

// instant is what the site's clocks show.
func (s *Site) instant() Instant {
	now, mono, jump := s.o.Clock.Read()
	return Instant{Mono: mono - s.zero, Wall: now, Jump: jump}
}

// run is the goroutine that steps the core.
type run struct {
	*Site
	ctx      context.Context //nolint:containedctx // of Run, whose one call this is
	carriers *sync.WaitGroup
	storage  *storage
	core     *Core
	random   *rand.Rand
	with     map[string]context.CancelFunc // by site, ends what is carried from and to it; for the run's goroutine
}

func (r *run) loop() error {
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		var in Input = Tick{}
		select {
		case in = <-r.inbox:
		case ask := <-r.asks:
			ask(r)
			continue
		case <-wake.C:
		case <-r.ctx.Done():
			return nil
		}
		out := r.core.Step(r.instant(), r.random, in)
		switch {
		case r.ctx.Err() != nil:
			return nil
		case r.storage.err != nil:
			return fmt.Errorf("replicate: %w", r.storage.err)
		}
		r.setTaken(r.core.Writable(), r.core.Whole())
		if beat, ok := in.(Heartbeat); ok && out.Met && beat.Terms != nil && r.o.Accord != nil {
			if err := r.o.Accord.Met(beat.Site, beat.Terms); err != nil {
				r.log.Warn("what a site says is not taken", slog.String("site", beat.Site), slog.Any("error", err))
			}
		}
		r.setHome()
		r.setGrants()
		r.alarm(out.Alarms)
		if out.Life != 0 {
			return &LifeError{r.own, out.Life, out.LifeWhy}
		}
		r.do(&out)
		switch in := in.(type) {
		case Heartbeat:
			r.noteElsewhere()
		case OnRecord:
			r.noteElsewhere()
			if in.stepped != nil {
				close(in.stepped)
			}
		}
		wake.Reset(out.Wake - r.instant().Mono)
	}
}

// source is the randomness of math/rand's functions.
type source struct{}

func (source) Uint64() uint64 { return rand.Uint64() }

// storage answers the core from the store. What keeps the store from answering ends the run, whatever the core makes of it; but
// not that an event is in an archive that cannot be had, or is damaged: it may be mended while the site runs, and others serve meanwhile.
type storage struct {
	ctx     context.Context //nolint:containedctx // of Run
	store   Store
	takenIn func() uint64
	log     *slog.Logger
	damaged map[eventstore.LogID]damage
	err     error
}

// damage is where a log was last found damaged, and until when it is not read there again.
type damage struct {
	seq   uint64
	until time.Time
}

// unreadFor is how long the core does without what is damaged: each heartbeat of a site that lags would have it read.
const unreadFor = 10 * time.Minute

// Heads implements Storage.
func (s *storage) Heads() []eventstore.LogHead {
	heads, err := s.store.Heads(s.ctx)
	if err != nil {
		s.err = errors.Join(s.err, err)
	}
	return heads
}

// Durable implements Storage.
func (s *storage) Durable() uint64 {
	state, err := s.store.Log(s.ctx)
	if err != nil {
		s.err = errors.Join(s.err, err)
	}
	return state.Durable.LSN
}

// TakenIn implements Storage.
func (s *storage) TakenIn() uint64 { return s.takenIn() }

// ChainAt implements Storage. What is archived is left to the Comparer: no heartbeat leaves while an archive is waited for, and others
// would take over. That a read comes upon damage is known to the store, which has it looked into.
func (s *storage) ChainAt(log eventstore.LogID, seq uint64) (eventstore.Hash, bool) {
	last := s.damaged[log]
	again := time.Now().Before(last.until)
	if again && last.seq == seq {
		return eventstore.Hash{}, false
	}
	chain, held, err := s.store.ChainHere(s.ctx, log, seq)
	switch {
	case err == nil:
		return chain, held
	case errors.Is(err, eventstore.ErrCorrupt):
		s.damaged[log] = damage{seq, time.Now().Add(unreadFor)}
		if !again {
			s.log.Error("what a site holds of a log cannot be compared: what is here is damaged",
				slog.String("log", log.String()), slog.Uint64("seq", seq), slog.Any("error", err), slog.String("do", "tributary scrub"))
		}
	case !errors.Is(err, eventstore.ErrTruncated) && eventstore.ClassOf(err) != eventstore.Transient:
		s.err = errors.Join(s.err, err)
	}
	return eventstore.Hash{}, false
}

package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tributary-es/tributary/eventstore"
)

// RegistrarOptions of a Registrar. Site, Fence, Store, Heads and NewID are required.
type RegistrarOptions struct {
	Site  string
	Fence *Fence
	Store eventstore.Store
	// Heads are those of the store (eventstore.Replica).
	Heads func(context.Context) ([]eventstore.LogHead, error)
	// Given are the other sites that this one was started with, Homed the categories, Resolvers what Terms say of them.
	Given     []string
	Homed     []string
	Resolvers []string
	// Words are those that Keep has kept last. Keep keeps some for good; nil: the site is never started again.
	Words Words
	Keep  func(Words) error
	// NewID names a system that is founded.
	NewID func() string
	// Changed is told the roster, as it is at the start and each time that it has changed, by one goroutine.
	Changed func(context.Context, Roster) error
	// Silence is after what time the words of a site that is not heard block nothing any more; zero means 5 s.
	Silence time.Duration
	// Suspect is after what silence other sites may take this one's cells (Config.Suspect); zero means 2 s.
	Suspect time.Duration
	Logger  *slog.Logger
}

// Registrar keeps the roster: it tells the other sites this one's terms, judges theirs, has the fence hold back what is not
// agreed on, and puts on record what is. Its methods are safe for concurrent use.
type Registrar struct {
	o    RegistrarOptions
	kick chan struct{}  // there may be something to put on record
	born eventstore.Dot // the last own event at the start
	// recorded are the other sites of which the log had events at the start
	recorded []string

	founded chan struct{}       // closed when the system is founded
	at      eventstore.Position // up to where Run follows the log

	started   bool       // what was on record at the start is read
	recording sync.Mutex // held while the roster's stream is read and taken in: what was read first is taken in first

	mu      sync.Mutex // guards all below; it is held for no longer than it takes to say what they are
	version uint64     // of the stream
	digest  uint64     // of its events
	roster  Roster
	words   Words // changed with recording held, too
	said    map[string]word
	verdict verdict
}

// word is what a site has told, and when; met is what it knew of the cells when it was heard first after a silence.
type word struct {
	terms Terms
	heard time.Time
	met   []CellsDigest
}

// ErrForeign: the other site is of another system.
var ErrForeign = errors.New("site of another system")

// NewRegistrar reads from the store what is on record.
func NewRegistrar(ctx context.Context, o RegistrarOptions) (*Registrar, error) {
	if o.Silence <= 0 {
		o.Silence = 5 * time.Second
	}
	if o.Suspect <= 0 {
		o.Suspect = (Config{}).withDefaults().Suspect
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Keep == nil {
		o.Keep = func(Words) error { return nil }
	}
	if o.Changed == nil {
		o.Changed = func(context.Context, Roster) error { return nil }
	}
	o.Homed, o.Resolvers = slices.Sorted(slices.Values(o.Homed)), slices.Sorted(slices.Values(o.Resolvers))
	r := &Registrar{o: o, kick: make(chan struct{}, 1), said: map[string]word{}, words: o.Words, founded: make(chan struct{})}
	state, err := o.Store.Log(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	r.at, r.born = state.Durable, eventstore.Dot{Log: state.ID, Seq: state.Seq}
	heads, err := o.Heads(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	for _, h := range heads {
		if site := h.Log.Site; site != o.Site && !slices.Contains(r.recorded, site) {
			r.recorded = append(r.recorded, site)
		}
	}
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	r.started = true
	return r, nil
}

// read takes in what is on record. The site is bound by its words before it says them.
func (r *Registrar) read(ctx context.Context) error {
	r.recording.Lock()
	defer r.recording.Unlock()
	var events []eventstore.Recorded
	for e, err := range r.o.Store.Read(ctx, RosterStream(), 1) {
		if err != nil && errors.Is(err, eventstore.ErrNotFound) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the roster: %w", err)
		}
		events = append(events, e)
	}
	roster, err := FoldRoster(events)
	if err != nil {
		return err
	}
	r.mu.Lock()
	words, spoken := r.bindings(&roster)
	r.mu.Unlock()
	if !spoken {
		if err := r.o.Keep(words); err != nil { // a disk takes its time, and who speaks asks for the terms
			return fmt.Errorf("keep what other sites are told: %w", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.roster.Epoch == 0 && roster.Epoch > 0 {
		close(r.founded)
		if r.started { // it was founded before, else
			r.o.Logger.Info("the sites' system is founded", "cluster", roster.Cluster, "founders", roster.Founders, "homed", roster.Homed)
		}
	}
	r.words, r.roster, r.version, r.digest = words, roster, uint64(len(events)), digestOf(events)
	r.judge()
	return nil
}

// digestOf returns a digest of which events there are, in whatever order.
func digestOf(events []eventstore.Recorded) (digest uint64) {
	for i := range events {
		digest += xxhash.Sum64String(events[i].Dot.String())
	}
	return digest
}

// bindings returns what the site is bound by when it speaks under a roster; spoken: it was before, and nothing is to be kept. REQUIRES: mu.
func (r *Registrar) bindings(roster *Roster) (words Words, spoken bool) {
	words = Words{Epoch: r.words.Epoch, Homed: slices.Clone(r.words.Homed), Founders: slices.Clone(r.words.Founders)}
	if words.Epoch != roster.Epoch {
		words = Words{Epoch: roster.Epoch}
	}
	spoken = slices.ContainsFunc(words.Homed, func(told []string) bool { return slices.Equal(told, r.o.Homed) })
	if !spoken {
		words.Homed = append(words.Homed, r.o.Homed)
	}
	if news := only(r.named(), words.Founders); roster.Epoch == 0 && len(news) > 0 {
		words.Founders, spoken = append(words.Founders, news...), false
	}
	return words, spoken
}

// Terms are what other sites are told.
func (r *Registrar) Terms() Terms {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.terms()
}

func (r *Registrar) terms() Terms {
	t := Terms{
		Format: TermsFormat, Cluster: r.roster.Cluster, Epoch: r.roster.Epoch, Founders: r.roster.Founders, Homed: r.o.Homed, Since: r.born, Bound: r.words.bound(&r.roster), Resolvers: r.o.Resolvers,
		Cells: r.o.Fence.Digests(), Roster: r.version, RosterDigest: r.digest,
	}
	if r.roster.Epoch == 0 {
		t.Founders = r.named()
	}
	return t
}

// named are the sites that this one was started with, itself among them.
func (r *Registrar) named() []string {
	return slices.Sorted(slices.Values(append(slices.Clone(r.o.Given), r.o.Site)))
}

// Heard takes what another site tells. It returns an error that matches ErrForeign when that is of another system: then nothing
// that it says or has concerns this one.
func (r *Registrar) Heard(site string, t *Terms) error { return r.take(site, t, false) }

// Met implements Accord.
func (r *Registrar) Met(site string, t *Terms) error { return r.take(site, t, true) }

func (r *Registrar) take(site string, t *Terms, meets bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own := r.roster.Cluster; own != "" && t.Cluster != "" && t.Cluster != own {
		return fmt.Errorf("%w: site %s belongs to the system %s, and site %s to %s: they were begun apart and cannot be joined; start one of them with an empty folder, or without the other (--peer)",
			ErrForeign, site, t.Cluster, r.o.Site, own)
	}
	last, now := r.said[site], time.Now()
	// half: what was sent before a cut is heard on one side later than on the other
	if meets || last.met == nil || now.Sub(last.heard) >= r.o.Suspect/2 {
		last.met = t.Cells
	}
	r.said[site] = word{*t, now, last.met}
	r.judge()
	return nil
}

// accord returns what the site knows. REQUIRES: mu.
func (r *Registrar) accord() *accord {
	a := &accord{
		site: r.o.Site, given: r.o.Given, own: r.terms(), roster: r.roster, words: r.words, recorded: r.recorded,
		said: map[string]Terms{}, fresh: map[string]bool{}, met: map[string][]CellsDigest{},
	}
	for site, w := range r.said {
		a.said[site], a.fresh[site], a.met[site] = w.terms, time.Since(w.heard) < r.o.Silence, w.met
	}
	return a
}

// judge has the fence hold back what is not agreed on. REQUIRES: mu.
func (r *Registrar) judge() {
	before := r.verdict
	r.verdict = r.accord().judge()
	r.o.Fence.Block(r.verdict.blocked)
	for i := range r.verdict.differences {
		if d := &r.verdict.differences[i]; !slices.Contains(before.differences, *d) {
			r.o.Logger.Warn("two sites differ in what has to be the same", "what", d.String())
		}
	}
	if r.verdict.agreed != nil || r.verdict.enters != "" {
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
}

// Roster returns what is on record.
func (r *Registrar) Roster() Roster {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.roster
}

// Differences returns what differs from the sites that are heard, and what may not be written at present.
func (r *Registrar) Differences() ([]Difference, Blocked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.verdict.differences), r.verdict.blocked
}

// Founded is closed when the system is founded: from then on Roster says who the founders are.
func (r *Registrar) Founded() <-chan struct{} { return r.founded }

// Run follows the roster, and puts on record what all sites agree on, until ctx ends. What passes by itself it waits for; it
// returns an error for what does not.
func (r *Registrar) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var recording sync.WaitGroup
	defer recording.Wait()
	defer cancel()
	recording.Go(func() { r.record(ctx) })
	for {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if eventstore.ClassOf(err) != eventstore.Transient || errors.Is(err, eventstore.ErrClosed) {
			return err
		}
		r.o.Logger.Warn("the roster of the sites cannot be followed, and is tried again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (r *Registrar) follow(ctx context.Context) error {
	sub, err := r.o.Store.Subscribe(ctx, r.at, eventstore.Filter{Categories: []string{RosterCategory}})
	if err != nil {
		return fmt.Errorf("follow the roster: %w", err)
	}
	defer sub.Close()
	for {
		if err := r.o.Changed(ctx, r.Roster()); err != nil {
			return err
		}
		chunk, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("follow the roster: %w", err)
		}
		if len(chunk.Events) > 0 {
			if err := r.read(ctx); err != nil {
				return err
			}
		}
		r.at = chunk.Position
	}
}

// record puts on record what all sites agree on, and has words of sites that are not heard any more block nothing.
func (r *Registrar) record(ctx context.Context) {
	tick := time.NewTicker(r.o.Silence / 4)
	defer tick.Stop()
	told := "" // why nothing can be put on record, as it was said last
	failing := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.kick:
		}
		err := r.settle(ctx)
		if err == nil || ctx.Err() != nil {
			told, failing = "", time.Time{}
			continue
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if why := err.Error(); why != told && time.Since(failing) >= r.o.Silence { // a site that has just begun takes no writes at first

			r.o.Logger.Warn("what the sites agree on is not on record yet, and is tried again", "error", err)
			told = why
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// settle puts on record what all sites agree on, if there is such a thing, and it is for this one to do.
func (r *Registrar) settle(ctx context.Context) error {
	r.mu.Lock()
	r.judge()
	a, after, enters := r.verdict.agreed, r.verdict.after, r.verdict.enters
	r.mu.Unlock()
	if enters != "" {
		_, err := r.Join(ctx, Member{Site: enters})
		return err
	}
	if a == nil {
		return nil
	}
	if held, err := r.holds(ctx, after); err != nil || !held {
		return err // it is on its way
	}
	eventType := RosterHomed
	if a.Epoch == 1 {
		eventType, a.Cluster = RosterFounded, r.o.NewID()
	}
	if err := r.put(ctx, eventType, a); err != nil && !errors.Is(err, eventstore.ErrConflict) {
		return err
	}
	return nil
}

// holds reports whether the store has some events.
func (r *Registrar) holds(ctx context.Context, events []eventstore.Dot) (bool, error) {
	heads, err := r.o.Heads(ctx)
	if err != nil {
		return false, fmt.Errorf("ask the store: %w", err)
	}
	return !slices.ContainsFunc(events, func(d eventstore.Dot) bool {
		return d.Seq > 0 && !slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == d.Log && h.Seq >= d.Seq })
	}), nil
}

// put appends an event to the roster, if that is as it was read, and reads what came of it.
func (r *Registrar) put(ctx context.Context, eventType string, payload any) error {
	e, err := rosterEvent(eventType, payload)
	if err != nil {
		return err
	}
	r.mu.Lock()
	expect := eventstore.Exactly(r.version)
	r.mu.Unlock()
	_, err = r.o.Store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: RosterStream(), Expect: expect, Events: []eventstore.Event{e}}}})
	if err != nil && !errors.Is(err, eventstore.ErrConflict) {
		return fmt.Errorf("write the roster: %w", err)
	}
	return errors.Join(err, r.read(ctx))
}

// Join puts on record that a site takes part, where it can be found. It is for a site of the system to say.
func (r *Registrar) Join(ctx context.Context, m Member) (Roster, error) {
	if err := eventstore.ValidateSite(m.Site); err != nil {
		return Roster{}, err
	}
	if m.Site == r.o.Site {
		return Roster{}, fmt.Errorf("%w: %s is this site itself", eventstore.ErrInvalid, m.Site)
	}
	return r.change(ctx, func(now Roster) (string, any, error) {
		switch {
		case now.Epoch == 0:
			return "", nil, fmt.Errorf("%w: the system is not founded yet: the sites that it begins with have to hear each other first", eventstore.ErrUnavailable)
		case slices.Contains(now.Members, m) || m.GRPC == "" && now.Has(m.Site):
			return "", nil, nil
		}
		if missing := r.lacking(now, m.Site); len(missing) > 0 {
			return "", nil, fmt.Errorf("%w: not all sites are known to have the last change of the roster, of which one takes part in a takeover: %s; ask again when they are heard, or have those that are gone for good leave first (sites leave)",
				eventstore.ErrUnavailable, strings.Join(missing, ", "))
		}
		return RosterJoined, m, nil
	})
}

// lacking returns the members that are not known to have the same roster, before a site joins that is none of them.
//
// INVARIANT: of three sites or more, those that think that there are fewer of them lack one site at most: so among those that acknowledge
// a home's lease by one roster there is one that has to agree to a takeover of it by another.
func (r *Registrar) lacking(now Roster, joins string) (missing []string) {
	if now.Has(joins) || len(now.Members) < 3 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range now.Members {
		if w, told := r.said[m.Site]; m.Site != r.o.Site && (!told || w.terms.RosterDigest != r.digest) {
			missing = append(missing, m.Site)
		}
	}
	return missing
}

// Leave puts on record that a site takes part no more.
func (r *Registrar) Leave(ctx context.Context, site, reason string) (Roster, error) {
	if reason == "" {
		return Roster{}, fmt.Errorf("%w: say why the site leaves", eventstore.ErrInvalid)
	}
	return r.change(ctx, func(now Roster) (string, any, error) {
		switch {
		case slices.Contains(now.Left, site) && !now.Has(site):
			return "", nil, nil
		case !now.Has(site):
			return "", nil, fmt.Errorf("site %s: %w: it is none of those on record", site, eventstore.ErrNotFound)
		}
		return RosterLeft, parting{site, reason}, nil
	})
}

// change puts an event on record that what says of the roster as it is, which is none when nothing has to change.
func (r *Registrar) change(ctx context.Context, what func(Roster) (string, any, error)) (Roster, error) {
	for {
		eventType, payload, err := what(r.Roster())
		if err != nil || eventType == "" {
			return r.Roster(), err
		}
		if err := r.put(ctx, eventType, payload); err != nil && !errors.Is(err, eventstore.ErrConflict) {
			return Roster{}, err
		}
	}
}

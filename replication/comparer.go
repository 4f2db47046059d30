package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Comparer compares what stands in the store with what the other sites have, now and then and part by part, and has what is wrong here
// put right where that can be proved. It reads no faster than it may, and holds no writer up. Its methods are safe for concurrent use.
type Comparer struct {
	o    ComparerOptions
	site *Site

	mu    sync.Mutex // guards state
	state ComparerState
}

// ComparerOptions are those of a Comparer. Mend is required.
type ComparerOptions struct {
	// Every is the time from one pass to the next, about; 0 means an hour, a negative one that there are none.
	Every time.Duration
	// EventsPerSecond bounds what is read; 0 means 50,000.
	EventsPerSecond int
	// Mend puts right, at this site, the events of a log after a seq up to another one, where that can be proved. It says what is
	// left and why, nothing when what is here is what the hash chains say.
	Mend func(ctx context.Context, log eventstore.LogID, after, through uint64) (left string, err error)
	// Logger is told of what is found; nil is silent.
	Logger *slog.Logger
}

// Finding is a run of events of a log in which this site and another one differed.
type Finding struct {
	Site        string
	Log         eventstore.LogID
	First, Last uint64 // seq
	// Problem says what was wrong. Repaired: it is right now; else Left says what to do.
	Problem  string
	Repaired bool
	Left     string
}

// String is a line for people.
func (f *Finding) String() string {
	s := fmt.Sprintf("seq %d to %d: %s", f.First, f.Last, f.Problem)
	if f.Repaired {
		return s + "; repaired"
	}
	return s + "; " + f.Left
}

// ComparerState says how the comparisons go. The zero value is that there was none.
type ComparerState struct {
	Running      bool
	Begun, Ended time.Time // of the last pass, or the one under way
	// Events were compared in it, by digests of so many Bytes.
	Events, Bytes uint64
	// Findings are those of the last pass, and those of earlier ones that are not repaired, where it has not come to compare again. Away are
	// the sites that were not heard in it.
	Findings []Finding
	Away     []string
	// Repaired counts all findings that were put right since the start.
	Repaired uint64
	Err      string
}

// Left returns the findings that are not repaired.
func (s *ComparerState) Left() (out []Finding) {
	for _, f := range s.Findings {
		if !f.Repaired {
			out = append(out, f)
		}
	}
	return out
}

// maxFindings bounds the findings of a pass that are kept; what is beyond is logged.
const maxFindings = 100

// NewComparer returns a comparer of a site's store with those of the others.
func NewComparer(site *Site, o ComparerOptions) *Comparer {
	if o.Every == 0 {
		o.Every = time.Hour
	}
	if o.EventsPerSecond <= 0 {
		o.EventsPerSecond = 50_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Comparer{o: o, site: site}
}

// State says how the comparisons go.
func (c *Comparer) State() ComparerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.Findings, s.Away = slices.Clone(s.Findings), slices.Clone(s.Away)
	return s
}

func (c *Comparer) change(do func(*ComparerState)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do(&c.state)
}

// Run makes pass after pass until ctx ends. Sites do not begin all at once, also where they were started together.
func (c *Comparer) Run(ctx context.Context) error {
	if c.o.Every < 0 {
		return nil
	}
	for wait := c.o.Every/4 + jitter(c.o.Every/4); ; wait = c.o.Every - c.o.Every/10 + jitter(c.o.Every/5) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		err := c.Pass(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, ErrStopped):
			return nil
		case err != nil:
			c.o.Logger.Warn("the stores of the sites could not be compared", slog.Any("error", err))
		}
	}
}

func jitter(most time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(most) + 1)) //nolint:gosec // it only spreads
}

// Pass compares every log that is held here with what each other site has of it, as far as both have it. A site that is away is
// passed over.
func (c *Comparer) Pass(ctx context.Context) error {
	c.change(func(s *ComparerState) { s.Running, s.Begun = true, time.Now() })
	p := pass{Comparer: c, began: time.Now(), compared: map[siteLog]uint64{}}
	err := p.run(ctx)
	c.change(func(s *ComparerState) {
		s.Running, s.Ended, s.Events, s.Bytes, s.Away, s.Err = false, time.Now(), p.events, p.bytes, p.away, ""
		s.Findings = p.with(s.Left())
		if err != nil {
			s.Err = err.Error()
		}
	})
	return err
}

// pass is one under way.
type pass struct {
	*Comparer
	began         time.Time
	events, bytes uint64
	away          []string
	findings      []Finding
	sites         []string           // that take part; nil when that is not known
	compared      map[siteLog]uint64 // up to which seq
}

// siteLog is a log as another site has it.
type siteLog struct {
	site string
	log  eventstore.LogID
}

// with returns the findings of the pass, and those before that it says nothing of: it has not come so far, or could not begin. Of a
// site that takes part no more nothing is kept.
func (p *pass) with(before []Finding) []Finding {
	all := p.findings
	for i := range before {
		f := &before[i]
		again := f.Last <= p.compared[siteLog{f.Site, f.Log}] || slices.ContainsFunc(p.findings, func(o Finding) bool {
			return o.Site == f.Site && o.Log == f.Log && o.First <= f.Last && f.First <= o.Last
		})
		gone := p.sites != nil && !slices.Contains(p.sites, f.Site)
		if !again && !gone && len(all) < maxFindings {
			all = append(all, *f)
		}
	}
	return all
}

func (p *pass) run(ctx context.Context) error {
	o, err := p.site.Overview(ctx)
	if err != nil {
		return err
	}
	heads, err := p.site.o.Store.Heads(ctx)
	if err != nil {
		return fmt.Errorf("compare logs: %w", err)
	}
	p.sites = []string{}
	for _, other := range o.Peers {
		p.sites = append(p.sites, other.Site)
	}
	var errs []error
	for _, other := range o.Peers {
		if !other.Up {
			p.away = append(p.away, other.Site)
			continue
		}
		for _, h := range heads {
			i := slices.IndexFunc(other.Heads, func(o eventstore.LogHead) bool { return o.Log == h.Log })
			if i < 0 {
				continue
			}
			if err := p.log(ctx, other.Site, h.Log, min(h.Seq, other.Heads[i].Seq)); err != nil {
				errs = append(errs, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return errors.Join(errs...)
}

// log compares a log with another site, up to a seq that both have.
func (p *pass) log(ctx context.Context, site string, log eventstore.LogID, through uint64) error {
	for after := uint64(0); after < through; {
		next, findings, bytes, err := p.part(ctx, site, log, after, 1, true)
		p.bytes += bytes
		for i := range findings {
			if len(p.findings) < maxFindings {
				p.findings = append(p.findings, findings[i])
			}
		}
		if err != nil || next == after {
			return err
		}
		p.events += next - after
		after = next
		p.compared[siteLog{site, log}] = after
		select {
		case <-time.After(time.Until(p.began.Add(time.Duration(p.events) * time.Second / time.Duration(p.o.EventsPerSecond)))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Part compares so many segments of a log with another site, after a seq, and puts right what is wrong here if that is asked for. It
// returns up to where it has come, which is after where there is nothing more that both hold.
func (c *Comparer) Part(ctx context.Context, site string, log eventstore.LogID, after, segments uint64, repair bool) (through uint64, out []Finding, err error) {
	through, out, _, err = c.part(ctx, site, log, after, segments, repair)
	return through, out, err
}

func (c *Comparer) part(ctx context.Context, site string, log eventstore.LogID, after, segments uint64, repair bool) (through uint64, out []Finding, bytes uint64, err error) {
	there, err := c.site.digester(site)
	if err != nil {
		return after, nil, 0, err
	}
	counted := &countedDigester{Digester: there}
	through, deviations, err := c.site.compareDeep(ctx, counted, log, after, segments)
	for i := 0; i < len(deviations) && err == nil; i++ {
		f := c.judge(ctx, counted, site, log, &deviations[i], repair)
		if err = ctx.Err(); err != nil { // what it says is of that
			break
		}
		out = append(out, f)
		if repair || deviations[i].Here == "" && deviations[i].There != "" {
			c.note(&f)
		}
	}
	if err != nil {
		return after, out, counted.bytes, fmt.Errorf("compare %s with site %s after seq %d: %w", log, site, after, err)
	}
	return through, out, counted.bytes, nil
}

// judge says what of two that differ is wrong, and has it put right if it is this site and that is asked for. What keeps it from that
// is said in the finding: what follows in the log is looked at all the same.
func (c *Comparer) judge(ctx context.Context, there Digester, site string, log eventstore.LogID, d *Deviation, repair bool) Finding {
	f := Finding{Site: site, Log: log, First: d.After + 1, Last: d.Through, Problem: d.String(), Left: "tributary sites verify --deep --repair puts right what can be proved"}
	switch {
	case d.Here == "" && d.There != "":
		f.Left = "that site puts it right by itself, or asked there: tributary sites verify --deep --repair"
	case repair:
		c.putRight(ctx, there, d, &f)
	}
	return f
}

// putRight has put right what is wrong here, and says in the finding what became of it.
func (c *Comparer) putRight(ctx context.Context, there Digester, d *Deviation, f *Finding) {
	left, err := c.o.Mend(ctx, f.Log, d.After, d.Through)
	if err != nil {
		f.Left = fmt.Sprintf("it could not be looked at closer, which is tried again: %v", err)
		return
	}
	through, still, err := c.site.compareDigests(ctx, there, f.Log, d.After, d.Through, FineEvents)
	if err == nil && through < d.Through {
		err = errHoldsLess
	}
	switch {
	case err == nil && len(still) == 0: // by this site, or meanwhile by a scrub or the other one
		f.Repaired, f.Left = true, ""
		c.change(func(s *ComparerState) { s.Repaired++ })
	case left != "":
		f.Left = left
	case err != nil:
		f.Left = fmt.Sprintf("whether it is the same now could not be seen, which is tried again: %v", err)
	case d.Here != "":
		f.Left = "what could not be read here is not found damaged when it is looked at closer: tributary scrub, and where it is archived tributary archive verify, say more"
	default:
		f.Left = "what is here is what the hash chain says: it is wrong at site " + f.Site + ", which puts it right by itself, or asked there: tributary sites verify --deep --repair; " +
			"where that says the same, restore one of the two (docs/sites.md)"
	}
}

// note tells the log of a finding.
func (c *Comparer) note(f *Finding) {
	level := slog.LevelError
	if f.Repaired {
		level = slog.LevelWarn
	}
	c.o.Logger.Log(context.Background(), level, "two sites differ in what they hold of a log",
		slog.String("log", f.Log.String()), slog.String("site", f.Site), slog.String("finding", f.String()))
}

// countedDigester counts what is sent, about.
type countedDigester struct {
	Digester
	bytes uint64
}

// Digests implements Digester.
func (c *countedDigester) Digests(ctx context.Context, log eventstore.LogID, after, through, every uint64) ([]Digest, error) {
	const asked, told = 48, 16 // what goes with a question, and with each digest
	digests, err := c.Digester.Digests(ctx, log, after, through, every)
	c.bytes += asked
	for i := range digests {
		c.bytes += uint64(told + len(digests[i].Sum) + len(digests[i].Err))
	}
	return digests, err
}

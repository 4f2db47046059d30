package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/commerce/retail"
)

// Plan says what Run does to sites. Input is required.
type Plan struct {
	// Input are the orders that the sites take.
	Input *retail.Set
	// Seed decides what is not said here, and what clients do when.
	Seed uint64
	// Cut names the site that is cut off, How says how; empty: the seed decides.
	Cut string
	How How
	// Kill names a site that is killed, whole, while clients write to it, and comes back; empty: none.
	Kill string
	// Rounds is how often the sites quarrel about something while one is cut off; 0 means 20.
	Rounds int
	// Apart is how long the cut lasts at least; 0 means 3 s.
	Apart time.Duration
	// Say, when set, is told what is going on.
	Say func(format string, args ...any)
	// Progress, when set, is told how many commands of how many are done. It is called from several goroutines.
	Progress func(done, total int)
}

// Report is what was found.
type Report struct {
	Sites      []string             `json:"sites"`
	Seed       uint64               `json:"seed"`
	Cut        string               `json:"cut"`
	How        How                  `json:"how"`
	Killed     string               `json:"killed,omitempty"`
	Events     int                  `json:"events"`
	Commands   Commands             `json:"commands"`
	Logs       []Log                `json:"logs"`
	LogsEqual  bool                 `json:"logs_equal"`
	Conflicts  Conflicts            `json:"conflicts"`
	Stock      Stock                `json:"stock"`
	ReadModels map[string]ReadModel `json:"read_models"`
	// ReadModelsEqual says that those of all sites show the same, order by order, stock code by stock code and row by row, Different how
	// much is not shown alike, and Differences names some of it.
	ReadModelsEqual bool     `json:"read_models_equal"`
	Different       int      `json:"different"`
	Differences     []string `json:"differences,omitempty"`
	Seconds         Seconds  `json:"seconds"`
	// Faults name what was promised and does not hold; empty when all does.
	Faults []string `json:"faults"`
}

// Seconds says how long things took.
type Seconds struct {
	// Together is from the first command to the cut, Apart how long that lasted, Converge from its end until all sites had what any
	// had then.
	Together float64 `json:"together"`
	Apart    float64 `json:"apart"`
	Converge float64 `json:"converge"`
	// Down is from the kill until the site took commands again.
	Down float64 `json:"down,omitempty"`
	// Settle is from the last command until nobody had anything left to do.
	Settle float64 `json:"settle"`
}

// patience bounds waiting for sites while nothing moves, and how long a command is repeated.
const patience = 2 * time.Minute

// Run has clients write at all sites, through a cut and, if the plan says so, a kill, and returns what is found when all is quiet. An
// error says that the drill could not be carried out; what it has found wrong is in the report.
func (s *Sites) Run(ctx context.Context, p Plan) (*Report, error) {
	random := rand.New(rand.NewPCG(p.Seed, 0))
	if p.Rounds == 0 {
		p.Rounds = 20
	}
	if p.Apart == 0 {
		p.Apart = 3 * time.Second
	}
	if p.Say == nil {
		p.Say = func(string, ...any) {}
	}
	if chosen := s.opts.Names[random.IntN(len(s.all))]; p.Cut == "" {
		p.Cut = chosen
	}
	if chosen := Hows[random.IntN(len(Hows))]; p.How == "" {
		p.How = chosen
	}
	for _, name := range []string{p.Cut, p.Kill} {
		if name != "" && s.Site(name) == nil {
			return nil, fmt.Errorf("there is no site %q", name)
		}
	}
	r := &run{sites: s, plan: p, report: &Report{Sites: s.opts.Names, Seed: p.Seed, Cut: p.Cut, How: p.How, Killed: p.Kill, Faults: []string{}}}
	r.work = share(p.Input, s.opts.Names)
	r.work.quarrel(s.opts.Names, p.Rounds, random)
	r.clients = &clients{sites: s, ledger: NewLedger(), parallel: 4, patience: patience, done: r.counter()}
	if err := r.write(ctx); err != nil {
		return nil, err
	}
	return r.report, r.look(ctx)
}

// run is a drill under way.
type run struct {
	sites   *Sites
	plan    Plan
	work    work
	clients *clients
	report  *Report
}

// counter returns what counts commands.
func (r *run) counter() func() {
	if r.plan.Progress == nil {
		return nil
	}
	total := count(r.work.opening) + count(r.work.orders) + count(r.work.quarrels)
	var done atomic.Int64
	return func() { r.plan.Progress(int(done.Add(1)), total) }
}

// write is the drill itself.
func (r *run) write(ctx context.Context) error {
	begun := time.Now()
	seconds, say := &r.report.Seconds, r.plan.Say
	lap := func() float64 {
		took := time.Since(begun).Seconds()
		begun = time.Now()
		return took
	}
	say("Stock comes in, and the first orders, at all sites.")
	if err := r.clients.all(ctx, r.work.opening); err != nil {
		return err
	}
	if err := r.clients.all(ctx, part(r.work.orders, 0, 0.3)); err != nil {
		return err
	}
	seconds.Together = lap()

	say("Site %s is cut off (%s); orders go on everywhere.", r.plan.Cut, r.plan.How)
	r.sites.Cut(r.plan.Cut, r.plan.How)
	err := r.clients.all(ctx, part(r.work.orders, 0.3, 0.7), r.work.quarrels)
	if err == nil {
		err = sleep(ctx, r.plan.Apart-time.Since(begun))
	}
	if err != nil {
		return err
	}
	seconds.Apart = lap()
	r.sites.Heal()
	say("The cut has ended after %.1f s.", seconds.Apart)
	if err := r.sites.Converge(ctx, patience); err != nil {
		return err
	}
	seconds.Converge = lap()
	say("All sites had what any of them had %.1f s later.", seconds.Converge)

	if err := r.killed(ctx); err != nil {
		return err
	}
	begun = time.Now()
	say("It is waited until nobody has anything left to do.")
	if err := r.sites.Settle(ctx, patience); err != nil {
		return err
	}
	seconds.Settle = lap()
	return nil
}

// killed has the rest of the orders taken, while a site is killed and comes back.
func (r *run) killed(ctx context.Context) error {
	rest := part(r.work.orders, 0.7, 1)
	if r.plan.Kill == "" {
		return r.clients.all(ctx, rest)
	}
	// Under load: when a quarter is done, and the others are on their way.
	var done atomic.Int64
	total, some := count(rest), make(chan struct{})
	writers := *r.clients
	writers.done = func() {
		if r.clients.done != nil {
			r.clients.done()
		}
		if done.Add(1) == int64(max(1, total/4)) {
			close(some)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return writers.all(ctx, rest) })
	g.Go(func() error {
		select {
		case <-some:
		case <-ctx.Done():
			return ctx.Err()
		}
		site, begun := r.sites.Site(r.plan.Kill), time.Now()
		site.Kill()
		r.plan.Say("Site %s was killed, with all that belongs to it, and is started again.", site.Name)
		if err := site.Restart(ctx); err != nil {
			return err
		}
		r.report.Seconds.Down = time.Since(begun).Seconds()
		r.plan.Say("It takes commands again after %.1f s.", r.report.Seconds.Down)
		return nil
	})
	return g.Wait()
}

// count returns how many jobs there are.
func count(jobs [][]job) (n int) {
	for _, of := range jobs {
		n += len(of)
	}
	return n
}

// look finds out what there is.
func (r *run) look(ctx context.Context) error {
	out := r.report
	r.plan.Say("Every event is read at every site, and every conflict.")
	held, err := r.sites.Census(ctx)
	if err != nil {
		return err
	}
	out.Events = held[0].Events
	out.Commands = r.clients.ledger.Audit(held)
	out.Logs, out.LogsEqual = Logs(held), true
	for _, l := range out.Logs {
		out.LogsEqual = out.LogsEqual && l.Equal
	}
	out.Stock = stockOf(held)
	if out.Conflicts, err = r.sites.Conflicts(ctx); err != nil {
		return err
	}
	r.plan.Say("Every order, stock code and table is read at every site.")
	models := make([]ReadModel, len(r.sites.all))
	var g errgroup.Group
	for i, one := range r.sites.all {
		g.Go(func() (err error) {
			models[i], err = one.readModel(ctx, held[0])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	out.compare(models)
	out.judge()
	return nil
}

// compare compares the read models of all sites.
func (r *Report) compare(models []ReadModel) {
	r.ReadModels = map[string]ReadModel{}
	for i, name := range r.Sites {
		r.ReadModels[name] = models[i]
	}
	r.Differences, r.Different = differences(r.Sites, r.ReadModels)
	r.ReadModelsEqual = r.Different == 0
}

// judge names what does not hold.
func (r *Report) judge() {
	fault := func(holds bool, format string, args ...any) {
		if !holds {
			r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
		}
	}
	c := r.Commands
	fault(c.Lost == 0, "lost: %d of %d acknowledged commands are not at every site, such as %v", c.Lost, c.Acknowledged, c.LostKeys)
	fault(c.Phantom == 0, "phantom: %d commands that were refused have taken effect", c.Phantom)
	fault(c.Duplicated == 0, "duplicated: %d commands have taken effect more than once", c.Duplicated)
	fault(r.LogsEqual, "diverged: the sites hold different events")
	fault(r.Conflicts.Equal, "conflicts: the sites have different records of them")
	fault(r.Conflicts.Total > 0, "conflicts: the sites have quarrelled, and none is on record")
	fault(r.Stock.Oversold == 0, "oversold: %v", r.Stock.Faults)
	fault(r.Stock.Held == 0, "promised: %d units are held for orders, and no checkout is under way", r.Stock.Held)
	fault(r.ReadModelsEqual, "read models: the sites show %d things differently, such as %v", r.Different, r.Differences)
	parked := 0
	for _, m := range r.ReadModels {
		parked += m.Parked
	}
	fault(parked == 0, "parked: %d events or checkouts wait for a person", parked)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// sitesCmd shows how a site stands with the others.
type sitesCmd struct {
	Status sitesStatusCmd `cmd:"" help:"Say which other sites are heard, and how far each log is here."`
	Verify sitesVerifyCmd `cmd:"" help:"Compare the hash chain of every log, and the read models, with what each other site has; 4 when any differs, 5 when nothing does but a site is away."`

	Roster   sitesRosterCmd   `cmd:"" help:"Say which sites take part, on record, and where they are found."`
	Join     sitesJoinCmd     `cmd:"" help:"Have another site take part: all learn of it by their logs. It is started with --join, or with the --peer flags that are printed."`
	Leave    sitesLeaveCmd    `cmd:"" help:"Have a site take part no more, when others have its cells."`
	Found    sitesFoundCmd    `cmd:"" help:"Have a system of sites begin, which needs all of them, without those that are gone for good."`
	Promote  sitesPromoteCmd  `cmd:"" help:"Take over what is written at a site that is gone. What that still wrote loses where both have written."`
	Readonly sitesReadonlyCmd `cmd:"" help:"Have the site take no writes, or take them again; kept across starts."`
}

// siteTarget is a running server: a stopped folder hears nobody.
type siteTarget struct {
	Addr string `help:"gRPC address of a running server." placeholder:"HOST:PORT"`
	Data string `help:"Data folder; the server that runs on it is found." default:"./data" type:"path"`
}

func (t *siteTarget) ask(ctx context.Context, do func(sitesv1.SitesClient) error) (err error) {
	s, err := runningServer(ctx, t.Addr, t.Data)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop() }() // the answer is there, or the error that counts
	return do(sitesv1.NewSitesClient(s.conn))
}

type sitesStatusCmd struct{ siteTarget }

// Run asks.
func (c *sitesStatusCmd) Run(ctx context.Context, g *globals) error {
	return c.ask(ctx, func(sites sitesv1.SitesClient) error {
		s, err := sites.GetSites(ctx, &sitesv1.GetSitesRequest{})
		if err != nil {
			return fmt.Errorf("ask for the sites: %w", err)
		}
		return g.print(s, func() { g.sitesStatus(s) })
	})
}

func (g *globals) sitesStatus(s *sitesv1.SitesStatus) {
	fmt.Fprintf(g.out, "Site %s is %s. Its log %s has %d events, %d of them in its topic.\n", s.GetSite(), s.GetMode(), s.GetLog(), s.GetHead(), s.GetMirrored())
	if why := s.GetWritesRefused(); why != "" {
		fmt.Fprintf(g.out, "It takes no commands: %s\n", why)
	}
	if why := s.GetClock(); why != "" && s.GetWritesRefused() == "" {
		fmt.Fprintf(g.out, "fenced-clock: %s\n", why)
	}
	for _, why := range s.GetBlocked() {
		fmt.Fprintf(g.out, "write-blocked: %s\n", why)
	}
	for _, d := range s.GetDifferences() {
		fmt.Fprintf(g.out, "%s differs from site %s: here %s, there %s\n", d.GetWhat(), d.GetSite(), d.GetHere(), d.GetThere())
	}
	if len(s.GetPeers()) == 0 {
		return
	}
	g.lease(s.GetLease())
	for _, t := range s.GetTakeovers() {
		fmt.Fprintf(g.out, "%s has taken over from %s at %s: %s\n", t.GetTaker(), t.GetSite(), t.GetAt().AsTime().Format(time.RFC3339), t.GetReason())
	}
	seconds := func(s float64) string {
		return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
	}
	rows := [][]string{{"SITE", "UP", "HEARD", "CLOCK AHEAD", "LACKS OF OURS"}}
	for _, p := range s.GetPeers() {
		heard := "never"
		if p.GetHeardSeconds() >= 0 {
			heard = seconds(p.GetHeardSeconds()) + " ago"
		}
		ahead := "at least " + seconds(p.GetAheadSeconds())
		if within := p.GetAheadWithinSeconds(); within >= 0 {
			ahead = seconds(p.GetAheadSeconds()) + " ± " + seconds(within)
		}
		rows = append(rows, []string{p.GetSite(), strconv.FormatBool(p.GetUp()), heard, ahead, strconv.FormatUint(p.GetBehind(), 10)})
	}
	rows = append(rows, []string{"LOG", "HERE", "KNOWN", "WAITING", "LAG"})
	for _, l := range s.GetLogs() {
		rows = append(rows, []string{
			l.GetLog(), strconv.FormatUint(l.GetHeld(), 10), strconv.FormatUint(l.GetKnown(), 10), strconv.FormatUint(l.GetWaiting(), 10), seconds(l.GetLagSeconds()),
		})
	}
	g.table(rows)
	for _, p := range s.GetPeers() {
		if why := p.GetProblem(); why != "" {
			fmt.Fprintf(g.out, "site %s: %s\n", p.GetSite(), why)
		}
	}
	for _, l := range s.GetLogs() {
		if l.GetBroken() != "" {
			fmt.Fprintf(g.out, "%s is not received any further: %s\n", l.GetLog(), l.GetBroken())
		}
		if l.GetEarlySeconds() > 0 {
			fmt.Fprintf(g.out, "%s goes on in %s: its next event is of then\n", l.GetLog(), seconds(l.GetEarlySeconds()))
		}
	}
	for _, a := range s.GetAlarms() {
		fmt.Fprintf(g.out, "alarm %s, %s: %s\n", a.GetKind(), a.GetAt().AsTime().Format(time.RFC3339), a.GetText())
	}
	g.storeComparison(s.GetComparison())
}

// storeComparison says how the last comparison of the stores went.
func (g *globals) storeComparison(c *sitesv1.StoreComparison) {
	if c.GetEndedAt() == nil {
		return
	}
	fmt.Fprintf(g.out, "The store was compared with those of the others %s ago: %d events, by %d bytes of digests.\n",
		time.Since(c.GetEndedAt().AsTime()).Round(time.Second), c.GetEvents(), c.GetBytes())
	if why := c.GetError(); why != "" {
		fmt.Fprintf(g.out, "Not all could be compared: %s\n", why)
	}
	for _, site := range c.GetAway() {
		fmt.Fprintf(g.out, "site %s was away, and was not compared with\n", site)
	}
	for _, f := range c.GetFindings() {
		g.deviation(f.GetLog(), f.GetSite(), f.GetDeviation())
	}
}

// deviation is a line on a run of events in which two sites differ, or did.
func (g *globals) deviation(log, site string, d *sitesv1.Deviation) {
	end := d.GetLeft()
	if d.GetRepaired() {
		end = "repaired"
	}
	fmt.Fprintf(g.out, "%s, site %s: seq %d to %d: %s; %s\n", log, site, d.GetFirst(), d.GetLast(), d.GetProblem(), end)
}

// lease says under which lease a site writes what is homed.
func (g *globals) lease(l *sitesv1.Lease) {
	switch {
	case l == nil:
		return
	case !l.GetBound():
		fmt.Fprintf(g.out, "takeover: by hand, %s\n", l.GetManual())
	case l.GetLeftSeconds() < 0:
		fmt.Fprintf(g.out, "takeover: automatic; this site has no lease, acknowledged by %s of %d others\n", orDash(strings.Join(l.GetAcknowledged(), ", ")), l.GetMembers()-1)
	default:
		fmt.Fprintf(g.out, "takeover: automatic; this site's lease lasts %.1fs, acknowledged by %s\n", l.GetLeftSeconds(), strings.Join(l.GetAcknowledged(), ", "))
	}
	for _, w := range l.GetWithheld() {
		fmt.Fprintf(g.out, "the lease of %s is not acknowledged: %s\n", w.GetSite(), w.GetWhy())
	}
}

type sitesVerifyCmd struct {
	Deep   bool          `help:"Read every event from the stores of both sides, and say where they differ."`
	Repair bool          `help:"With --deep: put right what is wrong at this site and can be proved, with what the others have."`
	Models bool          `help:"Compare digests of the read models, at a moment at which both sides have the same events." default:"true" negatable:""`
	Wait   time.Duration `help:"How long to wait for sites to have what others had at the beginning." default:"5s" placeholder:"TIME"`
	siteTarget
}

// Run compares, and ends with exit code 4 when anything is not the same, and 5 when nothing is found to differ and a site could not be
// asked, or lacks what another had at the beginning.
func (c *sitesVerifyCmd) Run(ctx context.Context, g *globals) error {
	if c.Repair && !c.Deep {
		return fmt.Errorf("%w: --repair needs --deep, which finds what is to be repaired", eventstore.ErrInvalid)
	}
	return c.ask(ctx, func(sites sitesv1.SitesClient) error {
		r, lag, err := compareInTime(ctx, sites, c.Wait)
		if err != nil {
			return err
		}
		faults, away := false, false
		for _, row := range r.GetComparisons() {
			if c.Deep && row.GetAway() == "" && row.GetHere() > 0 && row.GetThere() > 0 {
				if err := g.compareDeep(ctx, sites, row, c.Repair); err != nil {
					return err
				}
			}
			faults = faults || row.GetProblem() != "" || slices.ContainsFunc(row.GetDeviations(), func(d *sitesv1.Deviation) bool { return !d.GetRepaired() })
			away = away || row.GetAway() != ""
		}
		if c.Models {
			models, err := sites.CompareModels(ctx, &sitesv1.CompareModelsRequest{})
			if err != nil {
				return fmt.Errorf("compare the read models: %w", err)
			}
			r.Models = models.GetComparisons()
			for _, m := range r.GetModels() {
				faults, away = faults || m.GetProblem() != "", away || m.GetAway() != ""
			}
		}
		r.Equal = r.GetEqual() && !faults && !away && len(lag) == 0
		if err := g.print(r, func() { g.comparisons(r) }); err != nil {
			return err
		}
		switch {
		case faults:
			return errFaults
		case away:
			return errAway
		case len(lag) > 0:
			return fmt.Errorf("%w: after %s %s", errBehind, c.Wait, strings.Join(lag, "; "))
		}
		return nil
	})
}

// verifyPause is how long it takes until the sites are asked again how far they are.
const verifyPause = 200 * time.Millisecond

// compareInTime compares the logs, again and again until every site has what any had at the beginning, or the time is up; then lag says
// who lacks how much.
func compareInTime(ctx context.Context, sites sitesv1.SitesClient, wait time.Duration) (r *sitesv1.CompareSitesResponse, lag []string, err error) {
	known := map[string]uint64{} // by log
	for deadline := time.Now().Add(wait); ; {
		if r, err = sites.CompareSites(ctx, &sitesv1.CompareSitesRequest{}); err != nil {
			return nil, nil, fmt.Errorf("compare the sites: %w", err)
		}
		if len(known) == 0 {
			for _, row := range r.GetComparisons() {
				known[row.GetLog()] = max(known[row.GetLog()], row.GetHere(), row.GetThere())
			}
		}
		lag = nil
		here := map[string]uint64{} // what this site lacks, by log
		for _, row := range r.GetComparisons() {
			want := known[row.GetLog()]
			if row.GetAway() != "" || row.GetProblem() != "" {
				continue
			}
			if want > row.GetHere() {
				here[row.GetLog()] = want - row.GetHere()
			}
			if want > row.GetThere() {
				lag = append(lag, fmt.Sprintf("site %s lacks %d events of %s", row.GetSite(), want-row.GetThere(), row.GetLog()))
			}
		}
		for _, log := range slices.Sorted(maps.Keys(here)) {
			lag = append(lag, fmt.Sprintf("this site lacks %d events of %s", here[log], log))
		}
		if len(lag) == 0 || time.Now().After(deadline) {
			return r, lag, nil
		}
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for the sites: %w", ctx.Err())
		}
	}
}

// compareDeep compares a log with that of another site, part by part, and says in the row where they differ.
func (g *globals) compareDeep(ctx context.Context, sites sitesv1.SitesClient, row *sitesv1.Comparison, repair bool) error {
	for after := uint64(0); ; {
		through, deviations, err := comparePart(ctx, sites, row, after, repair)
		if status.Code(err) == codes.Unavailable { // the site has gone meanwhile
			row.Away = fmt.Sprintf("compared up to seq %d: %s", after, inWords(err))
			return nil
		}
		if err != nil {
			return fmt.Errorf("compare %s with site %s after seq %d: %w", row.GetLog(), row.GetSite(), after, err)
		}
		row.Deviations = append(row.Deviations, deviations...)
		if through == after {
			return nil
		}
		after = through
		if !g.JSON {
			fmt.Fprintf(g.out, "%s, site %s: read up to seq %d\n", row.GetLog(), row.GetSite(), after)
		}
	}
}

func comparePart(ctx context.Context, sites sitesv1.SitesClient, row *sitesv1.Comparison, after uint64, repair bool) (uint64, []*sitesv1.Deviation, error) {
	if repair {
		r, err := sites.RepairLog(ctx, &sitesv1.RepairLogRequest{Log: row.GetLog(), Site: row.GetSite(), After: after})
		return r.GetThrough(), r.GetDeviations(), err
	}
	r, err := sites.CompareLog(ctx, &sitesv1.CompareLogRequest{Log: row.GetLog(), Site: row.GetSite(), After: after})
	return r.GetThrough(), r.GetDeviations(), err
}

func (g *globals) comparisons(r *sitesv1.CompareSitesResponse) {
	if len(r.GetComparisons())+len(r.GetModels()) == 0 {
		fmt.Fprintln(g.out, "There is no other site to compare with.")
		return
	}
	rows := [][]string{{"LOG", "SITE", "HERE", "THERE", "CHAIN", "VERDICT"}}
	for _, c := range r.GetComparisons() {
		verdict, there, chain := "the same", strconv.FormatUint(c.GetThere(), 10), c.GetChainHere()[:min(16, len(c.GetChainHere()))]
		switch {
		case c.GetProblem() != "":
			verdict = c.GetProblem()
		case c.GetAway() != "":
			verdict, there, chain = "not compared: "+c.GetAway(), "-", "-"
		case c.GetChainHere() == "":
			verdict = "nothing to compare: what both have last was dropped by a policy"
		case c.GetHere() != c.GetThere():
			verdict = "the same as far as both have it"
		}
		rows = append(rows, []string{c.GetLog(), c.GetSite(), strconv.FormatUint(c.GetHere(), 10), there, chain, verdict})
	}
	g.table(rows)
	for _, c := range r.GetComparisons() {
		for _, d := range c.GetDeviations() {
			g.deviation(c.GetLog(), c.GetSite(), d)
		}
	}
	g.modelComparisons(r.GetModels())
	if r.GetEqual() {
		fmt.Fprintf(g.out, "All sites hold the same events of every log.\n")
	}
}

// modelComparisons says which read models are the same at which sites, and names what differs.
func (g *globals) modelComparisons(all []*sitesv1.ModelComparison) {
	var same []string // of a site
	for i, m := range all {
		switch {
		case m.GetProblem() != "":
			fmt.Fprintf(g.out, "%s, %s, site %s: %s\n", m.GetModel(), m.GetPart(), m.GetSite(), m.GetProblem())
		case m.GetAway() != "":
			fmt.Fprintf(g.out, "%s: not compared: %s\n", cmp.Or(m.GetModel(), "read models"), m.GetAway())
		default:
			same = append(same, m.GetModel()+" "+m.GetPart())
		}
		if i+1 == len(all) || all[i+1].GetSite() != m.GetSite() {
			if len(same) > 0 {
				fmt.Fprintf(g.out, "read models that are the same at site %s: %s\n", m.GetSite(), strings.Join(same, ", "))
			}
			same = nil
		}
	}
}

package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// sitesCmd shows how a site stands with the others.
type sitesCmd struct {
	Status sitesStatusCmd `cmd:"" help:"Say which other sites are heard, and how far each log is here."`
	Verify sitesVerifyCmd `cmd:"" help:"Compare the hash chain of every log with what each other site holds; 4 when any differs or cannot be compared."`

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
}

type sitesVerifyCmd struct {
	Deep bool `help:"Read every event from the stores of both sides, and say where they differ."`
	siteTarget
}

// Run compares, and ends with exit code 4 when anything is not the same or could not be compared. That a site lags is no fault.
func (c *sitesVerifyCmd) Run(ctx context.Context, g *globals) error {
	return c.ask(ctx, func(sites sitesv1.SitesClient) error {
		r, err := sites.CompareSites(ctx, &sitesv1.CompareSitesRequest{})
		if err != nil {
			return fmt.Errorf("compare the sites: %w", err)
		}
		faults := false
		for _, row := range r.GetComparisons() {
			if c.Deep && row.GetHere() > 0 && row.GetThere() > 0 {
				if err := g.compareDeep(ctx, sites, row); err != nil {
					return err
				}
			}
			faults = faults || row.GetProblem() != "" || len(row.GetDeviations()) > 0
		}
		r.Equal = r.GetEqual() && !faults
		if err := g.print(r, func() { g.comparisons(r) }); err != nil {
			return err
		}
		if faults {
			return errFaults
		}
		return nil
	})
}

// compareDeep compares a log with that of another site, part by part, and says in the row where they differ.
func (g *globals) compareDeep(ctx context.Context, sites sitesv1.SitesClient, row *sitesv1.Comparison) error {
	for after := uint64(0); ; {
		r, err := sites.CompareLog(ctx, &sitesv1.CompareLogRequest{Log: row.GetLog(), Site: row.GetSite(), After: after})
		if err != nil {
			return fmt.Errorf("compare %s with site %s after seq %d: %w", row.GetLog(), row.GetSite(), after, err)
		}
		row.Deviations = append(row.Deviations, r.GetDeviations()...)
		if r.GetThrough() == after {
			return nil
		}
		after = r.GetThrough()
		if !g.JSON {
			fmt.Fprintf(g.out, "%s, site %s: read up to seq %d\n", row.GetLog(), row.GetSite(), after)
		}
	}
}

func (g *globals) comparisons(r *sitesv1.CompareSitesResponse) {
	rows := [][]string{{"LOG", "SITE", "HERE", "THERE", "CHAIN", "VERDICT"}}
	for _, c := range r.GetComparisons() {
		verdict := "the same"
		switch {
		case c.GetProblem() != "":
			verdict = c.GetProblem()
		case c.GetHere() != c.GetThere():
			verdict = "the same as far as both have it"
		}
		rows = append(rows, []string{
			c.GetLog(), c.GetSite(), strconv.FormatUint(c.GetHere(), 10), strconv.FormatUint(c.GetThere(), 10), c.GetChainHere()[:min(16, len(c.GetChainHere()))], verdict,
		})
	}
	g.table(rows)
	for _, c := range r.GetComparisons() {
		for _, d := range c.GetDeviations() {
			fmt.Fprintf(g.out, "%s, site %s: %s\n", c.GetLog(), c.GetSite(), d.GetProblem())
		}
	}
	if r.GetEqual() {
		fmt.Fprintf(g.out, "All sites hold the same events of every log.\n")
	}
}

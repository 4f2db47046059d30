package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	pagePath   = "docs/performance.md"
	storeBegin = "<!-- figures:store, written by internal/bench/figures -->\n"
	peersBegin = "<!-- figures:peers, written by internal/bench/figures -->\n"
	lagBegin   = "<!-- figures:lag, written by internal/bench/figures -->\n"
	marksEnd   = "<!-- figures:end -->\n"
)

// page returns the page with its tables made anew.
func (r *Record) page(page string) (string, error) {
	page, err := between(page, storeBegin, r.storeTable())
	if err != nil {
		return "", err
	}
	if page, err = between(page, peersBegin, r.peersTable()); err != nil {
		return "", err
	}
	return between(page, lagBegin, r.lagTable())
}

// between replaces what stands between a mark and the next end.
func between(page, begin, text string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, marksEnd)
	if !found || !ended {
		return "", fmt.Errorf("%s lacks the marks %q and %q", pagePath, begin, marksEnd)
	}
	return before + begin + text + marksEnd + after, nil
}

func (r *Record) storeTable() string {
	var b strings.Builder
	b.WriteString("| what | goal | seen | rate | p50 | p99 | runs | command |\n|---|---|---|---|---|---|---|---|\n")
	for i := range rows {
		row := &rows[i]
		s, found := r.seen(cmp.Or(row.From, row.Name))
		if !found {
			fmt.Fprintf(&b, "| %s | %s | not measured yet | | | | | `%s` |\n", row.What, row.Goal, row.command())
			continue
		}
		share := "–"
		if row.Share != "" {
			if v, ok := s.of(row.Share); ok {
				share = row.share(v)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %d, %s | `%s` |\n", row.What, row.Goal, share,
			s.text("rate", rate), s.text("p50_us", millis), s.text("p99_us", millis), len(s.Runs), s.Date, row.command())
	}
	if r.Machine != "" {
		fmt.Fprintf(&b, "\nMachine: %s.\n", r.Machine)
	}
	return b.String()
}

// share writes what is compared with the goal.
func (r *Row) share(v spread) string {
	if r.Unit != "" {
		return fmt.Sprintf("%.0f %s (%.0f–%.0f)", v.median, r.Unit, v.low, v.high)
	}
	return fmt.Sprintf("%.2f of %s (%.2f–%.2f)", v.median, r.Of, v.low, v.high)
}

// text returns a field's median and range.
func (s *Seen) text(field string, show func(float64) string) string {
	v, ok := s.of(field)
	if !ok || v.high == 0 {
		return "–"
	}
	if len(s.Runs) == 1 {
		return show(v.median)
	}
	return fmt.Sprintf("%s (%s–%s)", show(v.median), show(v.low), show(v.high))
}

func rate(v float64) string {
	switch {
	case v >= 999_500:
		return fmt.Sprintf("%.2f M/s", v/1e6)
	case v >= 9_995:
		return fmt.Sprintf("%.0f k/s", v/1e3)
	case v >= 1_000:
		return fmt.Sprintf("%.1f k/s", v/1e3)
	}
	return fmt.Sprintf("%.0f/s", v)
}

func millis(us float64) string { return fmt.Sprintf("%.2f ms", us/1000) }

// peersTable has a peer a line, in the order of the run, and a work a column.
func (r *Record) peersTable() string {
	if len(r.Peers) == 0 {
		return "Not measured yet.\n"
	}
	var peers, works []string
	cells := map[[2]string]string{}
	for _, p := range r.Peers {
		name := p.Peer + " " + p.Version
		if !slices.Contains(peers, name) {
			peers = append(peers, name)
		}
		if !slices.Contains(works, p.Work) {
			works = append(works, p.Work)
		}
		cell := rate(p.Rate)
		if p.P99 > 0 {
			cell += fmt.Sprintf(" (%.1f ms)", p.P99/1000)
		}
		cells[[2]string{name, p.Work}] = cell
	}
	var b strings.Builder
	b.WriteString("| peer | " + strings.Join(works, " | ") + " |\n|---" + strings.Repeat("|---", len(works)) + "|\n")
	for _, name := range peers {
		b.WriteString("| " + name + " |")
		for _, w := range works {
			cell := cells[[2]string{name, w}]
			if cell == "" {
				cell = "–"
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nOne run, %s, all on the same machine and disk. How each peer checks the expected version:\n\n", r.PeersDate)
	said := map[string]bool{}
	for _, p := range r.Peers {
		if !said[p.Peer] {
			said[p.Peer] = true
			fmt.Fprintf(&b, "- %s: %s\n", p.Peer, p.Check)
		}
	}
	return b.String()
}

// lagTable has who carries the events a line.
func (r *Record) lagTable() string {
	if len(r.Lag) == 0 {
		return "Not measured yet.\n"
	}
	var b strings.Builder
	b.WriteString("| carried by | rate | p50 | p99 | what is there then |\n|---|---|---|---|---|\n")
	for _, p := range r.Lag {
		fmt.Fprintf(&b, "| %s %s | %s | %s | %s | %s |\n", p.Peer, p.Version, rate(p.Rate), millis(p.P50), millis(p.P99), p.Check)
	}
	fmt.Fprintf(&b, "\nOne run, %s, one after the other on the same two Kafka servers.\n", r.LagDate)
	return b.String()
}

// write brings the page up to date.
func write() error {
	r, err := readRecord()
	if err != nil {
		return err
	}
	old, err := os.ReadFile(pagePath)
	if err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	page, err := r.page(string(old))
	if err != nil {
		return err
	}
	if err := os.WriteFile(pagePath, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

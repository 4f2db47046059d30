package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Row is a work of a peer.
type Row struct {
	Peer    string `json:"peer"`
	Version string `json:"version"`
	Check   string `json:"check"`
	Work    string `json:"work"`
	Clients int    `json:"clients"`
	Batch   int    `json:"batch,omitempty"`
	Size    int    `json:"size"`
	Figures
}

// String returns the row as a line of progress.
func (r Row) String() string {
	return fmt.Sprintf("%-10s %-14s %s/s, p50 %.0f µs, p99 %.0f µs", r.Peer, r.Work, thousands(r.Rate), r.P50Micros, r.P99Micros)
}

// thousands shortens a rate.
func thousands(rate float64) string {
	switch {
	case rate >= 999_500:
		return fmt.Sprintf("%.2f M", rate/1e6)
	case rate >= 1_000:
		return fmt.Sprintf("%.1f k", rate/1e3)
	}
	return fmt.Sprintf("%.0f", rate)
}

// printTable prints a table in Markdown, a peer a line: rates a second, the 99th percentile in milliseconds in brackets.
func printTable(w io.Writer, rows []Row, wanted []Work) {
	var peers []string
	for _, r := range rows {
		if !slices.Contains(peers, r.Peer) {
			peers = append(peers, r.Peer)
		}
	}
	header, line := "| peer |", "|---|"
	for _, work := range wanted {
		header += " " + work.Name + " |"
		line += "---|"
	}
	fmt.Fprintln(w, header)
	fmt.Fprintln(w, line)
	for _, peer := range peers {
		var b strings.Builder
		of := func(work string) int {
			return slices.IndexFunc(rows, func(r Row) bool { return r.Peer == peer && r.Work == work })
		}
		fmt.Fprintf(&b, "| %s %s |", peer, rows[slices.IndexFunc(rows, func(r Row) bool { return r.Peer == peer })].Version)
		for _, work := range wanted {
			i := of(work.Name)
			switch {
			case i < 0:
				b.WriteString(" – |")
			case rows[i].P99Micros == 0:
				fmt.Fprintf(&b, " %s |", thousands(rows[i].Rate))
			default:
				fmt.Fprintf(&b, " %s (%.1f) |", thousands(rows[i].Rate), rows[i].P99Micros/1000)
			}
		}
		fmt.Fprintln(w, b.String())
	}
}

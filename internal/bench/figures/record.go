package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Record is docs/performance.json.
type Record struct {
	// Machine says what ran the rows.
	Machine string `json:"machine"`
	Rows    []Seen `json:"rows"`
	// Peers are the lines of internal/bench/peers, of one run; Lag those that it prints with -lag.
	PeersDate string `json:"peers_date,omitempty"`
	Peers     []Peer `json:"peers,omitempty"`
	LagDate   string `json:"lag_date,omitempty"`
	Lag       []Peer `json:"lag,omitempty"`
}

// Seen is what a row's runs answered.
type Seen struct {
	Name    string                       `json:"name"`
	Date    string                       `json:"date"`
	Version string                       `json:"version"`
	Runs    []map[string]json.RawMessage `json:"runs"`
}

// Peer is a line of internal/bench/peers.
type Peer struct {
	Peer    string  `json:"peer"`
	Version string  `json:"version"`
	Check   string  `json:"check"`
	Work    string  `json:"work"`
	Rate    float64 `json:"rate"`
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
}

const recordPath = "docs/performance.json"

func readRecord() (r Record, err error) {
	body, err := os.ReadFile(recordPath)
	if err != nil {
		return r, fmt.Errorf("read figures: %w", err)
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("read figures %s: %w", recordPath, err)
	}
	return r, nil
}

func (r *Record) save() error {
	body, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(recordPath, append(body, '\n'), 0o644); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// put replaces what was seen of a row.
func (r *Record) put(s Seen) {
	if i := slices.IndexFunc(r.Rows, func(o Seen) bool { return o.Name == s.Name }); i >= 0 {
		r.Rows[i] = s
		return
	}
	r.Rows = append(r.Rows, s)
}

// seen returns what was seen of a row.
func (r *Record) seen(name string) (Seen, bool) {
	i := slices.IndexFunc(r.Rows, func(o Seen) bool { return o.Name == name })
	if i < 0 {
		return Seen{}, false
	}
	return r.Rows[i], true
}

// spread is the median of a field over the runs, with the lowest and the highest.
type spread struct{ median, low, high float64 }

// of returns the spread of a field; false when a run does not have it.
func (s *Seen) of(field string) (spread, bool) {
	var values []float64
	for _, run := range s.Runs {
		var v float64
		if json.Unmarshal(run[field], &v) != nil {
			return spread{}, false
		}
		values = append(values, v)
	}
	if len(values) == 0 {
		return spread{}, false
	}
	slices.Sort(values)
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}, true
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }

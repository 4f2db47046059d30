package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestPageIsWrittenFromTheRecord(t *testing.T) {
	t.Chdir("../../..")
	record, err := readRecord()
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	page, err := record.page(string(old))
	if err != nil {
		t.Fatal(err)
	}
	if page != string(old) {
		t.Errorf("%s is not what %s says: run go run ./internal/bench/figures write", pagePath, recordPath)
	}
	for _, s := range record.Rows {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Name == s.Name }) {
			t.Errorf("%s has figures of %q, which is not a row any more", recordPath, s.Name)
		}
	}
}

func TestTables(t *testing.T) {
	run := func(ratio, rate string) map[string]json.RawMessage {
		return map[string]json.RawMessage{"ratio": json.RawMessage(ratio), "rate": json.RawMessage(rate), "p50_us": json.RawMessage("500"), "p99_us": json.RawMessage("2000")}
	}
	record := Record{
		Rows: []Seen{{Name: "append-64", Date: "2026-01-02", Runs: []map[string]json.RawMessage{run("0.8", "90000"), run("0.7", "110000"), run("0.95", "100000")}}},
		Peers: []Peer{
			{Peer: "one", Version: "1", Check: "by version", Work: "append-1", Rate: 1500, P99: 1000},
			{Peer: "two", Version: "2", Check: "by tag", Work: "load", Rate: 2_000_000},
		},
		Lag: []Peer{{Peer: "carrier", Version: "3", Check: "copied", Work: "lag", Rate: 2000, P50: 4000, P99: 9000}},
	}
	page, err := record.page("before\n" + storeBegin + "old\n" + marksEnd + "middle\n" + peersBegin + marksEnd + "between\n" + lagBegin + marksEnd + "after\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before\n", "middle\n", "between\n", "after\n", "| carrier 3 | 2.0 k/s | 4.00 ms | 9.00 ms | copied |\n",
		"| append in process, 64 clients | 0.9 of the raw file, not under 0.80 | 0.80 of the raw file (0.70–0.95) | 100 k/s (90 k/s–110 k/s) | 0.50 ms (0.50 ms–0.50 ms) | 2.00 ms (2.00 ms–2.00 ms) | 3, 2026-01-02 |",
		"| append in process, 1 client | 0.75 of the raw file, not under 0.70 | not measured yet |",
		"| one 1 | 1.5 k/s (1.0 ms) | – |", "| two 2 | – | 2.00 M/s |", "- two: by tag\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "old") {
		t.Error("the page still has what stood between the marks")
	}
	if _, err := record.page("no marks"); err == nil {
		t.Error("a page without marks was taken")
	}
}

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/testenv"
)

// Three sites take orders at once, one of them is cut off and another killed: nothing is lost, nothing is sold twice, and all
// sites hold the same, have the same conflicts on record and show the same of each order, stock code and table. Nobody is left
// running. Shows R20.
func TestDemoOfSites(t *testing.T) {
	testenv.Ensure(t, "clickhouse")
	data := filepath.Join(t.TempDir(), "data")
	r := decoded[drill.Report](t, done(t, "demo", "--sites", "bj,sh,sz", "--once", "--json", "--data", data,
		"--cut", "sh", "--kill", "bj", "--seed", "7", "--input", testdata(t, "adjust-bad-debt.csv"), "--input", testdata(t, "three-decimals.csv")))
	if c := r.Commands; len(r.Faults) > 0 || c.Acknowledged == 0 || c.Found != c.Acknowledged || c.Unanswered > 0 {
		t.Errorf("commands: %+v; faults: %v", c, r.Faults)
	}
	if len(r.Logs) < 3 || !r.LogsEqual || !r.Conflicts.Equal {
		t.Errorf("logs: %+v; conflicts: %+v", r.Logs, r.Conflicts)
	}
	resolvers := map[string]bool{}
	for _, k := range r.Conflicts.By {
		resolvers[k.Resolver] = true
	}
	for _, want := range []string{"crdt", "domain", "escrow", "lww"} {
		if !resolvers[want] {
			t.Errorf("no conflict was resolved by %s: %+v", want, r.Conflicts.By)
		}
	}
	if s := r.Stock; s.Oversold > 0 || s.Sold == 0 || s.Held != 0 {
		t.Errorf("stock: %+v", s)
	}
	if s := r.Seconds; r.Cut != "sh" || r.Killed != "bj" || s.Apart < 3 || s.Converge <= 0 || s.Down <= 0 {
		t.Errorf("cut off: %s, killed: %s, seconds: %+v", r.Cut, r.Killed, s)
	}
	for _, kind := range []string{
		"order", "status", "list of customer", "stock", "sales by-day", "sales by-month", "sales by-country", "sales by-product",
		"rows of order_lines", "rows of order_changes", "rows of payments", "rows of stock_movements",
	} {
		for _, site := range r.Sites {
			if r.ReadModels[site].Compared[kind] == 0 {
				t.Errorf("nothing of %q was compared at site %s: %v", kind, site, r.ReadModels[site].Compared)
			}
		}
	}
	nobodyLeft(t, data)
	t.Logf("%d events, %d conflicts; alike %.1f s after the cut, back %.1f s after the kill", r.Events, r.Conflicts.Total, r.Seconds.Converge, r.Seconds.Down)
}

// What cannot be done is refused before anything is started.
func TestDemoOfSitesRefuses(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--sites", "bj"}, "--sites"},
		{[]string{"--sites", "bj,bj"}, "twice"},
		{[]string{"--sites", "bj,sh", "--cut", "sz"}, "--cut sz"},
		{[]string{"--sites", "bj,sh", "--kill", "sz"}, "--kill sz"},
		{[]string{"--sites", "bj,sh", "--how", "loudly"}, "--how loudly"},
		{[]string{"--sites", "bj,sh", "--kafka", "off"}, "--kafka"},
		{[]string{"--sites", "bj,sh", "--real", "--clickhouse", "off"}, "--clickhouse"},
		{[]string{"--cut", "bj"}, "--sites"},
		{nil, "--input"},
	} {
		a := tributary(t, append([]string{"demo", "--once", "--data", data}, c.args...)...)
		if a.code != 2 || !strings.Contains(a.stderr, c.want) || a.stdout != "" {
			t.Errorf("demo %v: exit code %d, %q; want 2 and %s named", c.args, a.code, a.stderr, c.want)
		}
	}
}

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/drill"
)

// Three sites take orders at once, one of them is cut off and another killed: nothing is lost, nothing is sold twice, and all
// sites hold the same and have the same conflicts on record. Nobody is left running. Shows R20.
func TestDemoOfSites(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r := decoded[drill.Report](t, done(t, "demo", "--sites", "bj,sh,sz", "--once", "--json", "--clickhouse", "off", "--data", data,
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

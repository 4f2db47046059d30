package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commerce/cart"
	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// A whole site is killed under load, its brokers with it: its clients go on at another, those of homed streams when an operator
// has taken its cells. What it has acknowledged with durability peer is there without it. It comes back with all that it had acknowledged, and all sites hold the same and have the same conflicts
// on record. It is T19 of docs/reliability.md, and shows R20. In the long form the brokers are real.
func TestSiteKilled(t *testing.T) {
	kills := 1
	if *long {
		testenv.Ensure(t, "kafka")
		kills = 12
	}
	sites := openSites(t, drill.Options{Names: []string{"bj", "sh", "sz"}, Kafka: *long, NoClickHouse: true, Flags: takenByHand})
	ledger := drill.NewLedger()
	var tolerant, homed []time.Duration
	classes := []string{"local", "kafka", "peer"}
	perCart := cart.MaxLines / (2 * len(classes)) // all clients of a site fill the same carts
	told := 0
	acknowledged, away := map[string]int{}, map[string]int{}
	for i := range kills {
		all := sites.All()
		victim, other, third := all[i%3], all[(i+1)%3], all[(i+2)%3]
		stream, _ := streamAt(t, victim)
		var lost atomic.Pointer[time.Time]
		ctx, stop := context.WithCancel(t.Context())
		free, only := newPatrons(ledger, i, stop), newPatrons(ledger, i, stop)
		for _, class := range classes {
			for range 2 {
				free.visit(ctx, class, []*drill.Site{victim, other, third}, &lost, func(ctx context.Context, at *drill.Site, key string, n int) error {
					return adding(ctx, at, key, fmt.Sprintf("cart-%s-%d-%d", victim.Name, i, n/perCart), class)
				})
			}
		}
		only.visit(ctx, "homed", []*drill.Site{victim, other, third}, &lost, func(ctx context.Context, at *drill.Site, key string, _ int) error {
			return booking(ctx, at, key, stream)
		})
		free.busy(t, 50)
		only.busy(t, 50)

		now := time.Now()
		lost.Store(&now)
		victim.Kill()
		unheard(t, other, victim.Name)
		takeAll(t, other, victim.Name)
		eventually(t, "all clients are served elsewhere", func() bool { return free.served() == 2*len(classes) && only.served() == 1 })
		held := [2]*drill.Census{}
		for n, at := range []*drill.Site{other, third} {
			var err error
			if held[n], err = drill.Take(t.Context(), at); err != nil {
				t.Fatal(err)
			}
		}
		for class, keys := range free.classes {
			acknowledged[class] += len(keys)
			for _, key := range keys {
				if !held[0].Holds(key) && !held[1].Holds(key) {
					away[class]++
				}
			}
		}
		if err := victim.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		free.leave(t)
		only.leave(t)
		if n := len(free.refused); n > 0 {
			t.Errorf("what any site may do was refused %d times, first by %v", n, free.refused[0])
		}
		told += free.told + only.told
		tolerant, homed = append(tolerant, free.back...), append(homed, only.back...)
	}
	c := alike(t, sites, ledger)
	if c.Acknowledged != told {
		t.Errorf("%d commands were acknowledged, under %d keys", told, c.Acknowledged)
	}
	p50, p99 := reliability.Percentiles(tolerant)
	extra := map[string]any{"refused, and nowhere to be found": c.Refused - c.Phantom}
	for _, class := range classes {
		extra[class+" acknowledged by the site"], extra[class+" not elsewhere until it was back"] = acknowledged[class], away[class]
	}
	kafka := map[bool]string{false: "embedded", true: "real"}[*long]
	reliability.Result{
		Test: "T19", What: "a site killed under load, its clients go on at another; brokers " + kafka, Cycles: kills, Acked: c.Acknowledged,
		Lost: c.Lost, Duplicated: c.Duplicated, Phantom: c.Phantom, P50: p50, P99: p99,
		Violations: away["peer"], Extra: extra,
	}.Print(t)
	if away["peer"] > 0 {
		t.Errorf("%d of %d commands were acknowledged as being at another site, and were at none when theirs was gone", away["peer"], acknowledged["peer"])
	}
	if p99 > 3000 {
		t.Errorf("clients had to wait for %.0f ms", p99)
	}
	p50, p99 = reliability.Percentiles(homed)
	reliability.Result{
		Test: "T19", What: "homed streams of a site that was killed, taken when it is not heard; brokers " + kafka, Cycles: kills, P50: p50, P99: p99,
	}.Print(t)
	if p99 > 10_000 {
		t.Errorf("clients of homed streams had to wait for %.0f ms", p99)
	}
}

// served returns how many of the clients another site has served since theirs was lost.
func (p *patrons) served() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.back)
}

// takeAll takes all cells of a site.
func takeAll(t *testing.T, at *drill.Site, from string) {
	t.Helper()
	done, err := sitesv1.NewMembersClient(at.Conn()).PromoteSite(t.Context(), &sitesv1.PromoteSiteRequest{Site: from, Reason: "it was killed"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s takes over from %s: %v", at.Name, from, done)
}

// alike wants all sites to come to hold the same, with the same conflicts on record, and nothing that was acknowledged to be lost.
func alike(t *testing.T, sites *drill.Sites, ledger *drill.Ledger) drill.Commands {
	t.Helper()
	if err := sites.Settle(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	held, err := sites.Census(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range drill.Logs(held) {
		if !l.Equal {
			t.Errorf("the sites differ in %+v", l)
		}
	}
	conflicts, err := sites.Conflicts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !conflicts.Equal {
		t.Errorf("the sites have different conflicts on record: %+v", conflicts)
	}
	c := ledger.Audit(held)
	if c.Lost+c.Duplicated+c.Phantom > 0 {
		t.Errorf("of what was acknowledged: %+v", c)
	}
	for _, one := range sites.All() {
		st, err := sitesv1.NewSitesClient(one.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range st.GetAlarms() {
			if a.GetKind() == "fork" {
				t.Errorf("site %s says: %s", one.Name, a.GetText())
			}
		}
	}
	return c
}

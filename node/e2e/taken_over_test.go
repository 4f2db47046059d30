package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/reliability"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// The home of a stream is killed under load, and another one frozen while calls lie in its sockets: each time one of the other two sites
// takes its cells, without anybody's asking, and clients go on there within 10 s. When the home is back it knows that; nothing is
// done twice, and nothing is void that it has acknowledged after it was frozen, or as being at another site. It is T18 and T19 of
// docs/reliability.md, and shows R27 and R28.
func TestTakenOver(t *testing.T) {
	sites := openSites(t, drill.Options{Names: []string{"bj", "sh", "sz"}, NoClickHouse: true, Flags: homedLedger})
	ledger := drill.NewLedger()
	cycles := 1
	if *long {
		cycles = 6
	}
	var killed, frozen []time.Duration
	told, stale, void := 0, 0, 0
	for i := range cycles {
		stream := fmt.Sprint(i)
		leased(t, sites)
		n, voided, back := killHome(t, sites, ledger, stream, i)
		told, void, killed = told+n, void+voided, append(killed, back...)

		leased(t, sites)
		n, refused, voided, back := freezeHome(t, sites, ledger, stream, i)
		told, stale, void, frozen = told+n, stale+refused, void+voided, append(frozen, back...)
	}
	c := alike(t, sites, ledger)
	if c.Acknowledged != told {
		t.Errorf("%d commands were acknowledged, under %d keys", told, c.Acknowledged)
	}
	for _, r := range []reliability.Result{
		{Test: "T19", What: "the home of a stream killed under load; its cells are taken over without anybody's asking"},
		{Test: "T18", What: "the home of a stream frozen (SIGSTOP) past its lease, and woken up with 20 calls to answer; its cells are taken over without anybody's asking"},
	} {
		back := killed
		if r.Test == "T18" {
			back, r.Extra = frozen, map[string]any{"stale calls refused": stale}
		}
		r.Cycles, r.Acked, r.Lost, r.Duplicated, r.Phantom, r.Violations = cycles, c.Acknowledged, c.Lost, c.Duplicated, c.Phantom, void
		r.P50, r.P99 = reliability.Percentiles(back)
		r.Print(t)
		if r.P99 > 10_000 {
			t.Errorf("%s: clients had to wait for %.0f ms", r.What, r.P99)
		}
	}
}

// leased waits until every site has a lease under which it writes what is homed.
func leased(t *testing.T, sites *drill.Sites) {
	t.Helper()
	for _, site := range sites.All() {
		eventually(t, site.Name+" has a lease", func() bool {
			st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
			return err == nil && st.GetLease().GetBound() && st.GetLease().GetLeftSeconds() > 0 && len(st.GetLease().GetWithheld()) == 0 && len(st.GetBlocked()) == 0
		})
	}
}

// homeOf returns the home of a stream, and the other sites, as one of them says.
func homeOf(t *testing.T, sites *drill.Sites, at *drill.Site, stream string) (home *drill.Site, others []*drill.Site) {
	t.Helper()
	list, err := sitesv1.NewCellsClient(at.Conn()).ListCells(t.Context(), &sitesv1.ListCellsRequest{Stream: "default/ledger/" + stream})
	if err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(list.GetCells()[0].GetHome(), "@")
	home = sites.Site(name)
	return home, slices.DeleteFunc(sites.All(), func(s *drill.Site) bool { return s == home })
}

// booked appends to a stream of the category ledger, with a durability.
func booked(ctx context.Context, site *drill.Site, key, stream, class string) error {
	_, err := storev1.NewEventStoreClient(site.Conn()).Append(ctx, &storev1.AppendRequest{RequestId: key, Durability: class, Appends: []*storev1.StreamAppend{{
		Category: "ledger", Id: stream, Events: []*storev1.NewEvent{{Type: "ledger.booked.v1", ContentType: "application/json", PayloadJson: "{}"}},
	}}})
	return err
}

// killHome kills the home of a stream while clients write to it, and starts it again when they are served elsewhere.
func killHome(t *testing.T, sites *drill.Sites, ledger *drill.Ledger, stream string, round int) (told, void int, back []time.Duration) {
	t.Helper()
	home, others := homeOf(t, sites, sites.All()[0], stream)
	var lost atomic.Pointer[time.Time]
	ctx, stop := context.WithCancel(t.Context())
	clients := newPatrons(ledger, round, stop)
	for _, class := range []string{"local", "peer"} {
		clients.visit(ctx, class, append([]*drill.Site{home}, others...), &lost, func(ctx context.Context, at *drill.Site, key string, _ int) error {
			return booked(ctx, at, key, stream, class)
		})
	}
	eventually(t, "there is load", func() bool { return clients.count() >= 50 })
	now := time.Now()
	lost.Store(&now)
	home.Kill()
	eventually(t, "all clients are served elsewhere", func() bool { return clients.served() == 2 })
	if err := home.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	clients.leave(t)
	if err := sites.Settle(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	for _, at := range sites.All() {
		st, err := sitesv1.NewSitesClient(at.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(st.GetTakeovers(), func(o *sitesv1.Takeover) bool { return o.GetSite() == home.Name && o.GetReason() != "" }) {
			t.Errorf("site %s does not say that another one has taken over from %s: %v", at.Name, home.Name, st.GetTakeovers())
		}
		void += voidOf(t, at, stream, clients.classes["peer"])
	}
	return clients.told, void, clients.back
}

// freezeHome freezes the home of a stream, has calls lie in its sockets, and wakes it up when another site has taken its cells.
func freezeHome(t *testing.T, sites *drill.Sites, ledger *drill.Ledger, stream string, round int) (told, refused, void int, back []time.Duration) {
	t.Helper()
	home, others := homeOf(t, sites, sites.All()[0], stream)
	begun := time.Now()
	if err := home.Server().Pause(); err != nil {
		t.Fatal(err)
	}
	const late = 20
	var answers [late]error
	var sent sync.WaitGroup
	key := func(what string, n int) string { return fmt.Sprintf("%s/%d/%d", what, round, n) }
	for n := range late {
		sent.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			answers[n] = booked(ctx, home, key("stale", n), stream, "local")
		})
	}
	taken := 0
	for n, at := range others {
		eventually(t, "site "+at.Name+" has what is homed written", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return booked(ctx, at, key("taken", n), stream, "local") == nil
		})
		ledger.Acknowledge(key("taken", n), at.Name)
		taken++
		if n == 0 {
			back = append(back, time.Since(begun))
		}
	}
	if err := home.Server().Resume(); err != nil {
		t.Fatal(err)
	}
	sent.Wait()
	var acknowledged []string
	for n, err := range answers {
		if err == nil {
			acknowledged = append(acknowledged, key("stale", n))
			ledger.Acknowledge(key("stale", n), home.Name)
		}
	}
	if err := sites.Settle(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	for _, at := range sites.All() {
		void += voidOf(t, at, stream, acknowledged)
	}
	return taken + len(acknowledged), late - len(acknowledged), void, back
}

// voidOf returns how many of the events that some commands have recorded in a stream are void at a site.
func voidOf(t *testing.T, at *drill.Site, stream string, commands []string) (void int) {
	t.Helper()
	for from := uint64(1); ; {
		page, err := apiv1.NewStreamServiceClient(at.Conn()).ReadStream(t.Context(), &apiv1.ReadStreamRequest{Category: "ledger", Id: stream, Limit: 1000, FromVersion: from})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.GetEvents() {
			if e.GetVoided() && slices.Contains(commands, e.GetCommandId()) {
				void++
				t.Errorf("at site %s event %s of %s is void: %s", at.Name, e.GetDot(), e.GetCommandId(), e.GetVoidReason())
			}
		}
		if len(page.GetEvents()) < 1000 {
			return void
		}
		from += 1000
	}
}

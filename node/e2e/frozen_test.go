package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/reliability"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// The home of a stream is frozen while clients write to it, and its cell is taken by another site, which writes. When it wakes up
// what clients have sent it meanwhile is refused, or goes to the new home: what it acknowledges is void nowhere. It is T18 of
// docs/reliability.md, and shows R20 and R22.
func TestFrozenOwner(t *testing.T) {
	sites := openSites(t, drill.Options{Names: []string{"bj", "sh", "sz"}, NoClickHouse: true, Flags: takenByHand})
	ledger := drill.NewLedger()
	cycles := 1
	if *long {
		cycles = 9
	}
	var takeovers []time.Duration
	void, refused := 0, 0
	for i := range cycles {
		all := sites.All()
		owner, other, third := all[i%3], all[(i+1)%3], all[(i+2)%3]
		stream, cell := streamAt(t, owner)
		book := func(at *drill.Site, what string, n int) (string, error) {
			key := fmt.Sprintf("%s/%d/%d", what, i, n)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := booking(ctx, at, key, stream)
			if err == nil {
				ledger.Acknowledge(key, at.Name)
			}
			return key, err
		}
		eventually(t, "the owner writes: the others have answered it since it started", func() bool {
			_, err := book(owner, "before", 0)
			return err == nil
		})
		if err := sites.Converge(t.Context(), patience); err != nil {
			t.Fatal(err)
		}

		begun := time.Now()
		if err := owner.Server().Pause(); err != nil {
			t.Fatal(err)
		}
		// They lie in the sockets of a process that does not read.
		const late = 20
		var answers [late]error
		var keys [late]string
		var sent sync.WaitGroup
		for n := range late {
			sent.Go(func() { keys[n], answers[n] = book(owner, "stale", n) })
		}
		unheard(t, other, owner.Name)
		cells := sitesv1.NewCellsClient(other.Conn())
		if _, err := cells.TakeCell(t.Context(), &sitesv1.TakeCellRequest{Cell: cell, Reason: "its home is frozen"}); err != nil {
			t.Fatal(err)
		}
		if _, err := book(other, "taken", 0); err != nil {
			t.Fatal(err)
		}
		takeovers = append(takeovers, time.Since(begun))
		for n := range 5 {
			at := []*drill.Site{other, third}[n%2]
			eventually(t, "site "+at.Name+" knows of the taking, and has it written at the new home", func() bool {
				_, err := book(at, "taken", n+1)
				return err == nil
			})
		}
		if err := owner.Server().Resume(); err != nil {
			t.Fatal(err)
		}
		sent.Wait()
		if err := sites.Settle(t.Context(), patience); err != nil {
			t.Fatal(err)
		}
		stale := map[string]bool{}
		for n, err := range answers {
			if err == nil {
				stale[keys[n]] = true
			}
		}
		refused += late - len(stale)
		for _, at := range all {
			page, err := apiv1.NewStreamServiceClient(at.Conn()).ReadStream(t.Context(), &apiv1.ReadStreamRequest{Category: "ledger", Id: stream, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.GetEvents() {
				if e.GetVoided() {
					void++
					t.Errorf("at site %s event %s of %s is void, acknowledged late %v: %s", at.Name, e.GetDot(), e.GetCommandId(), stale[e.GetCommandId()], e.GetVoidReason())
				}
			}
		}
	}
	c := alike(t, sites, ledger)
	p50, p99 := reliability.Percentiles(takeovers)
	reliability.Result{
		Test: "T18", What: "the home of a stream frozen (SIGSTOP), its cell taken, and woken up with 20 calls to answer", Cycles: cycles, Acked: c.Acknowledged,
		Lost: c.Lost, Duplicated: c.Duplicated, Phantom: c.Phantom, Violations: void, P50: p50, P99: p99,
		Extra: map[string]any{"stale calls refused": refused, "stale writes that are void": void},
	}.Print(t)
	if p99 > 10_000 {
		t.Errorf("to take over took %.0f ms", p99)
	}
}

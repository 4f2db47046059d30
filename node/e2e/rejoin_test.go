package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/reliability"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// A site is restored from an old backup, again and again from the same one, and rejoins: each time in a life that it never had, so
// that no dot is given twice, and with all that had left it. It is T21 of docs/reliability.md, and shows R21.
func TestRestoredSiteRejoins(t *testing.T) {
	sites := openSites(t, drill.Options{Names: []string{"bj", "sh"}, NoClickHouse: true})
	ledger := drill.NewLedger()
	site, other := sites.All()[0], sites.All()[1]
	n := 0
	voucher := func(key string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", key)
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		_, err := commerceapiv1.NewCommandServiceClient(site.Conn()).CreateVoucher(ctx, &commerceapiv1.CreateVoucherRequest{Code: "ONE", Value: "1"})
		return err
	}
	// again has the site refuse a voucher, since there is one with this code from before the backup.
	again := func() {
		t.Helper()
		n++
		key := fmt.Sprintf("voucher/%d", n)
		if err := voucher(key); grpcstatus.Code(err) != codes.AlreadyExists {
			t.Fatalf("the voucher that there is is made again: %v", err)
		}
		ledger.Refuse(key, site.Name)
	}
	add := func(at *drill.Site) {
		t.Helper()
		for range 10 {
			n++
			key := fmt.Sprintf("add/%d", n)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			err := adding(ctx, at, key, fmt.Sprintf("cart-%d", n/200), "local") // a cart is full at some time
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			ledger.Acknowledge(key, at.Name)
		}
	}
	if err := voucher("voucher"); err != nil {
		t.Fatal(err)
	}
	ledger.Acknowledge("voucher", site.Name)
	add(site)
	backup := filepath.Join(t.TempDir(), "backup")
	done(t, "backup", "--data", site.Data, "--to", backup)

	restores := 3
	if *long {
		restores = 12
	}
	lives := map[string]bool{logOf(t, site): true}
	for range restores {
		add(site)
		again()
		add(other)
		if err := sites.Settle(t.Context(), patience); err != nil { // what has not left the site is gone with its disk
			t.Fatal(err)
		}
		site.Kill()
		if err := os.RemoveAll(filepath.Join(site.Data, "store")); err != nil {
			t.Fatal(err)
		}
		done(t, "restore", "--from", backup, "--data", site.Data, "--site", site.Name)
		add(other)
		if err := site.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		life := logOf(t, site)
		if lives[life] {
			t.Errorf("the site goes on in %s, in which it was before", life)
		}
		lives[life] = true
		again()
		add(site)
	}
	c := alike(t, sites, ledger)
	reliability.Result{
		Test: "T21", What: "a site restored from the same old backup again and again, as processes", Cycles: restores, Acked: c.Acknowledged,
		Lost: c.Lost, Duplicated: c.Duplicated, Phantom: c.Phantom, Extra: map[string]any{"lives": len(lives), "refused": c.Refused},
	}.Print(t)
}

// logOf returns the name of a site's own log, in the life that it is in.
func logOf(t *testing.T, site *drill.Site) string {
	t.Helper()
	st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(st.GetLog(), "@"+site.Name+"/") {
		t.Fatalf("the log of site %s is %q", site.Name, st.GetLog())
	}
	return st.GetLog()
}

package e2e

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// earlier is the commit of which the program of before is built: sites replicate, write what is homed, and have no roster; their
// read models take back nothing.
const earlier = "cc980e16ffe19313ccab8ec37954389c703edf8f"

// buildEarlier builds the program of an earlier commit.
func buildEarlier(t *testing.T, commit string) (program string) {
	t.Helper()
	if out, err := exec.Command("git", "-C", root, "cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		testenv.Skip(t, fmt.Sprintf("commit %s is not here, such as in a shallow clone (git fetch --unshallow): %v: %s", commit[:12], err, out))
	}
	sources := t.TempDir()
	archive := exec.Command("git", "-C", root, "archive", "--format=tar", commit)
	said, err := archive.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unpack(said, sources), archive.Wait()); err != nil {
		t.Fatalf("unpack commit %s: %v", commit, err)
	}
	program = filepath.Join(t.TempDir(), "tributary")
	// Without the folder's name in it, so that what was built once is built.
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/tributary")
	cmd.Dir, cmd.Env = sources, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build commit %s: %v\n%s", commit, err, out)
	}
	return program
}

// unpack writes the files of a tar archive below dir.
func unpack(from io.Reader, dir string) error {
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
		case tar.TypeReg:
			var body []byte
			if body, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, body, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
}

// placing places an order for a unit of a stock code.
func placing(ctx context.Context, site *drill.Site, key, id, code string) error {
	_, err := commerceapiv1.NewCommandServiceClient(site.Conn()).PlaceOrder(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key), &commerceapiv1.PlaceOrderRequest{
		Id: id, CustomerId: "17850", Country: "France", Lines: []*commerceapiv1.OrderLine{{StockCode: code, Description: "Mug", Quantity: 1, UnitPrice: "4.25"}},
	})
	return err
}

// parkedAt returns what a site has parked.
func parkedAt(t *testing.T, site *drill.Site) *apiv1.ListParkedResponse {
	t.Helper()
	list, err := apiv1.NewAdminServiceClient(site.Conn()).ListParked(t.Context(), &apiv1.ListParkedRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// blockedAt says why a site does not write what is homed.
func blockedAt(t *testing.T, site *drill.Site) []string {
	t.Helper()
	st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return st.GetBlocked()
}

// upgrading is a system of sites that are written to while their programs are replaced.
type upgrading struct {
	sites       *drill.Sites
	ledger      *drill.Ledger
	free        *steady             // of what any site may do by itself
	peer, homed *steady             // of what another site has to have, too; of what one site only may do
	writers     map[string]*writers // by site
}

// writers are those of one site.
type writers struct {
	stop context.CancelFunc
	gone sync.WaitGroup
}

// kindsOfWrites is how many clients of free writes there are at each site, goods how many things they buy.
const (
	kindsOfWrites = 2
	goods         = 100
)

func good(n int) string { return fmt.Sprintf("MUG-%d", n%goods) }

// newUpgrading has stock at all sites, and clients that write there.
func newUpgrading(t *testing.T, o drill.Options) *upgrading {
	t.Helper()
	u := &upgrading{sites: openSites(t, o), ledger: drill.NewLedger(), writers: map[string]*writers{}}
	u.free, u.peer, u.homed = newSteady(u.ledger, u.sites), newSteady(u.ledger, u.sites), newSteady(u.ledger, u.sites)
	for _, site := range u.sites.All() {
		for n := range goods {
			if _, err := commerceapiv1.NewCommandServiceClient(site.Conn()).ReceiveStock(t.Context(), &commerceapiv1.ReceiveStockRequest{StockCode: good(n), Quantity: 1_000_000}); err != nil {
				t.Fatal(err)
			}
		}
		u.write(t, site, "")
	}
	u.more(t, 20)
	u.homed.more(t, len(u.sites.All()), 20)
	return u
}

// write has clients write at a site, under names of their own.
func (u *upgrading) write(t *testing.T, site *drill.Site, name string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writers{stop: stop}
	u.writers[site.Name] = w
	t.Cleanup(func() { u.rest(site) })
	for class, clients := range map[string]*steady{"local": u.free, "peer": u.peer} {
		w.gone.Go(func() {
			clients.write(ctx, site, class+name, func(ctx context.Context, key string, n int) error {
				return adding(ctx, site, key, fmt.Sprintf("cart-%s-%d", class, n/10), class) // the same carts at all sites
			})
		})
	}
	w.gone.Go(func() {
		u.free.write(ctx, site, "order"+name, func(ctx context.Context, key string, n int) error {
			return placing(ctx, site, key, strings.ReplaceAll(key, "/", "-"), good(n))
		})
	})
	eventually(t, "site "+site.Name+" knows who writes what", func() bool {
		_, err := sitesv1.NewCellsClient(site.Conn()).ListCells(t.Context(), &sitesv1.ListCellsRequest{})
		return grpcstatus.Code(err) != codes.Unavailable
	})
	stream, _ := streamAt(t, site)
	w.gone.Go(func() {
		u.homed.write(ctx, site, "homed"+name, func(ctx context.Context, key string, _ int) error { return booking(ctx, site, key, stream) })
	})
}

// rest ends the clients of a site.
func (u *upgrading) rest(site *drill.Site) {
	w := u.writers[site.Name]
	w.stop()
	w.gone.Wait()
	for _, s := range []*steady{u.free, u.peer, u.homed} {
		s.forget(site)
	}
}

// more waits until each client of what is not homed has done n more commands.
func (u *upgrading) more(t *testing.T, n int) {
	t.Helper()
	u.free.more(t, kindsOfWrites*len(u.sites.All()), n)
	u.peer.more(t, len(u.sites.All()), n)
}

// replace has a site run another program, with between done while none runs, and returns when that answers.
func (u *upgrading) replace(t *testing.T, site *drill.Site, program string, between func()) {
	t.Helper()
	for _, s := range []*steady{u.free, u.peer, u.homed} {
		s.up[site.Name].Store(false)
	}
	site.Server().Stop()
	between()
	if err := site.Server().Replace(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	// The connection to it was lost.
	if _, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// comes returns when a site that was started takes writes.
func (u *upgrading) comes(t *testing.T, site *drill.Site) {
	t.Helper()
	begun := time.Now()
	u.free.comes(t, site, kindsOfWrites)
	u.peer.comes(t, site, 1)
	u.homed.up[site.Name].Store(true)
	t.Logf("site %s takes writes %s after it has answered", site.Name, time.Since(begun).Round(time.Millisecond))
}

// peersKeptUp wants all to have been acknowledged as being at another site that was to be.
func (u *upgrading) peersKeptUp(t *testing.T) {
	t.Helper()
	u.peer.mu.Lock()
	defer u.peer.mu.Unlock()
	if u.peer.refused > 0 {
		t.Errorf("sites that were up have not acknowledged %d commands as being at another site, for %s at most: %v", u.peer.refused, u.peer.paused, u.peer.said)
	}
}

// end ends all clients, wants all sites to have come to the same, and homed streams to be written everywhere, and returns what was
// seen.
func (u *upgrading) end(t *testing.T, what string, extra map[string]any) {
	t.Helper()
	for _, site := range u.sites.All() {
		eventually(t, "site "+site.Name+" writes what is homed", func() bool { return len(blockedAt(t, site)) == 0 })
	}
	u.more(t, 5)
	u.homed.more(t, len(u.sites.All()), 5)
	for _, site := range u.sites.All() {
		u.rest(site)
	}
	c := alike(t, u.sites, u.ledger)
	for _, site := range u.sites.All() {
		if list := parkedAt(t, site); len(list.GetEvents())+len(list.GetInstances()) > 0 {
			t.Errorf("site %s has parked %v", site.Name, list)
		}
	}
	p50, p99 := reliability.Percentiles(u.free.took)
	extra["write pause at sites that were up, s"] = u.free.paused.Seconds()
	extra["peer not reached, times"], extra["peer not reached for at most, s"] = u.peer.refused, u.peer.paused.Seconds()
	extra["homed streams were written by nobody for at most, s"] = u.homed.paused.Seconds()
	reliability.Result{
		Test: "T24", What: what, Cycles: len(u.sites.All()), Acked: c.Acknowledged, Lost: c.Lost, Duplicated: c.Duplicated, Phantom: c.Phantom,
		Violations: u.free.refused, P50: p50, P99: p99, Extra: extra,
	}.Print(t)
	if u.free.refused > 0 {
		t.Errorf("sites that were up have not taken %d commands, for %s at most: %v", u.free.refused, u.free.paused, u.free.said)
	}
}

// Three sites that run the program of an earlier commit are upgraded one by one while clients write at all of them, the last with an empty
// folder, as if its disk were lost. Those that are up take all writes that any site may do; what is homed waits until all have been
// upgraded, and says so. Nothing is lost, and all sites are alike in the end. It is T24 of docs/reliability.md. Shows R20.
func TestUpgradedSites(t *testing.T) {
	if !*long {
		t.Skip("with -long: the program of an earlier commit is built, and three sites are upgraded from it")
	}
	u := newUpgrading(t, drill.Options{Program: buildEarlier(t, earlier), Names: []string{"bj", "sh", "sz"}, NoClickHouse: true, Flags: homedLedger})
	all := u.sites.All()
	addrs := freePorts(t, 2)
	a := tributary(t, "serve", "--json", "--site", "gz", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--grpc", addrs[0],
		"--kafka-port", addrs[1][strings.LastIndexByte(addrs[1], ':')+1:], "--clickhouse", "off", "--join", all[0].GRPC)
	if a.code == 0 || !strings.Contains(a.stderr, "upgrade it first") {
		t.Errorf("a new site asks one of an earlier program to be let in: exit code %d, %s", a.code, tail(a.stderr, 1000))
	}
	for i, site := range all {
		lost := i == len(all)-1
		if lost {
			u.peersKeptUp(t) // which they may not while a site gets all back
			u.rest(site)
			if err := u.sites.Converge(t.Context(), patience); err != nil { // what has not left it is lost with its disk
				t.Fatal(err)
			}
		}
		u.replace(t, site, built, func() {
			if !lost {
				return
			}
			if err := os.RemoveAll(site.Data); err != nil {
				t.Fatal(err)
			}
		})
		if lost {
			u.write(t, site, "-again")
		}
		u.comes(t, site)
		if lost {
			break
		}
		u.more(t, 50)
		if err := u.sites.Converge(t.Context(), patience); err != nil {
			t.Fatal(err)
		}
		blocked := blockedAt(t, site)
		if len(blocked) == 0 {
			t.Errorf("site %s writes what is homed beside sites of an earlier program, which do not know who writes what", site.Name)
		}
		t.Logf("site %s is upgraded, beside %d of an earlier program; of what is homed it says: %s", site.Name, len(all)-1-i, strings.Join(blocked, "; "))
	}
	eventually(t, "the site that was lost goes on in another life", func() bool { return strings.HasSuffix(logOf(t, all[2]), "/2") })
	u.end(t, "three sites upgraded one by one from commit "+earlier[:7]+", the last with an empty folder, under load", map[string]any{})
}

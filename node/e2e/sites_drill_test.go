package e2e

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/internal/drill"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// openSites starts whole sites that end with the test.
func openSites(t *testing.T, o drill.Options) *drill.Sites {
	t.Helper()
	o.Program, o.Dir = cmp.Or(o.Program, built), t.TempDir()
	sites, err := drill.Open(t.Context(), o)
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range o.Names {
				said, _ := os.ReadFile(filepath.Join(o.Dir, name, "server", "log")) // nothing is there to be shown otherwise
				t.Logf("site %s said:\n%s", name, tail(string(said), 2000))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sites.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, site := range sites.All() {
		eventually(t, site.Name+" knows who writes what", func() bool {
			// What is homed is written when the others have answered it since it started.
			st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
			if err != nil || len(st.GetBlocked()) > 0 {
				return false
			}
			_, err = sitesv1.NewCellsClient(site.Conn()).ListCells(t.Context(), &sitesv1.ListCellsRequest{})
			return grpcstatus.Code(err) != codes.Unavailable
		})
	}
	return sites
}

// homedLedger has the category ledger written at one site at a time.
func homedLedger(string) []string { return []string{"--homed", "ledger"} }

// takenByHand is homedLedger where nobody takes over from a site that is gone but an operator.
func takenByHand(site string) []string { return append(homedLedger(site), "--takeover", "manual") }

// booking appends an event to a stream of the category ledger.
func booking(ctx context.Context, site *drill.Site, key, stream string) error {
	_, err := storev1.NewEventStoreClient(site.Conn()).Append(ctx, &storev1.AppendRequest{RequestId: key, Appends: []*storev1.StreamAppend{{
		Category: "ledger", Id: stream, Events: []*storev1.NewEvent{{Type: "ledger.booked.v1", ContentType: "application/json", PayloadJson: "{}"}},
	}}})
	return err
}

// adding puts a unit into a cart, which any site may do. A cart has room for cart.MaxLines of them.
func adding(ctx context.Context, site *drill.Site, key, cart, durability string) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key, "x-durability", durability)
	_, err := commerceapiv1.NewCommandServiceClient(site.Conn()).AddToCart(ctx, &commerceapiv1.AddToCartRequest{Id: cart, StockCode: "MUG-1", Quantity: 1})
	return err
}

// streamAt returns a stream of the category ledger that is written at a site.
func streamAt(t *testing.T, site *drill.Site) (stream string, cell uint32) {
	t.Helper()
	for i := range 1000 {
		stream := fmt.Sprint(i)
		list, err := sitesv1.NewCellsClient(site.Conn()).ListCells(t.Context(), &sitesv1.ListCellsRequest{Stream: "default/ledger/" + stream})
		if err != nil {
			t.Fatal(err)
		}
		if c := list.GetCells()[0]; c.GetHome() == "shard-00@"+site.Name {
			return stream, c.GetCell()
		}
	}
	t.Fatalf("site %s is the home of none of 1,000 streams", site.Name)
	return "", 0
}

// unheard waits until a site does not hear another any more.
func unheard(t *testing.T, at *drill.Site, other string) {
	t.Helper()
	eventually(t, at.Name+" does not hear "+other, func() bool {
		st, err := sitesv1.NewSitesClient(at.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.GetPeers() {
			if p.GetSite() == other {
				return !p.GetUp()
			}
		}
		t.Fatalf("%s knows no site %s", at.Name, other)
		return false
	})
}

// patrons are clients that prefer one site, and go to the next when it does not answer. What was acknowledged to them they remember.
type patrons struct {
	ledger *drill.Ledger
	stop   context.CancelFunc
	gone   sync.WaitGroup
	failed atomic.Pointer[error] // by what no site should say

	round, clients int // which patrons these are, and how many; each gives its commands under keys of its own

	mu      sync.Mutex          // guards what follows
	told    int                 // how often a site has acknowledged a command
	classes map[string][]string // keys that the preferred site has acknowledged, by their class
	back    []time.Duration     // of each client, from the outage on until another site has done what it wanted
	refused []error             // what sites have said that have refused a command for good
	last    map[string]error    // what was said last to a client of each class that was not done
}

// newPatrons returns the patrons of a round, who leave with stop.
func newPatrons(ledger *drill.Ledger, round int, stop context.CancelFunc) *patrons {
	return &patrons{ledger: ledger, round: round, stop: stop, classes: map[string][]string{}, last: map[string]error{}}
}

// visit has a client give a command again and again until the patrons leave: do gives the n-th, from 0 on, to a site under a key.
// lost is when the preferred site was lost, nil before. It is called from one goroutine.
func (p *patrons) visit(
	ctx context.Context, class string, sites []*drill.Site, lost *atomic.Pointer[time.Time],
	do func(ctx context.Context, site *drill.Site, key string, n int) error,
) {
	p.mu.Lock()
	if _, known := p.classes[class]; !known {
		p.classes[class] = nil // counted from the first client on
	}
	p.mu.Unlock()
	p.clients++
	client := fmt.Sprintf("%d/%s/%s/%d", p.round, sites[0].Name, class, p.clients)
	p.gone.Go(func() {
		at, served := 0, false
		for n := 0; ctx.Err() == nil; n++ {
			key := fmt.Sprintf("%s/%d", client, n)
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			err := do(attempt, sites[at], key, n)
			cancel()
			code := grpcstatus.Code(err)
			p.answered(class, key, sites[at].Name, err)
			switch code {
			case codes.OK:
				p.acknowledged(class, key, sites[at].Name, at == 0)
				if when := lost.Load(); when != nil && at > 0 && !served {
					served = true
					p.mu.Lock()
					p.back = append(p.back, time.Since(*when))
					p.mu.Unlock()
				}
			case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.FailedPrecondition, codes.Aborted:
				if at+1 < len(sites) && lost.Load() != nil {
					at++
				} else if at > 0 {
					at = 1
				}
			default:
				p.failed.Store(&err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(3 * time.Millisecond):
			}
		}
	})
}

func (p *patrons) acknowledged(class, key, site string, preferred bool) {
	p.ledger.Acknowledge(key, site)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told++
	if preferred {
		p.classes[class] = append(p.classes[class], key)
	}
}

// answered notes what a site has said that has not done what a client wanted.
func (p *patrons) answered(class, key, site string, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = fmt.Errorf("site %s: %w", site, err)
	p.last[class] = err
	if grpcstatus.Code(err) == codes.FailedPrecondition {
		p.refused = append(p.refused, err)
		p.ledger.Refuse(key, site)
	}
}

// count returns how many commands of each class the preferred site has acknowledged, of that of which it has fewest.
func (p *patrons) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := math.MaxInt
	for _, keys := range p.classes {
		least = min(least, len(keys))
	}
	return least
}

// busy waits until the preferred site has acknowledged n commands of each class.
func (p *patrons) busy(t *testing.T, n int) {
	t.Helper()
	for giveUp := time.Now().Add(patience); p.count() < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(giveUp) {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Fatalf("there is no load: not %d commands of each class are done within %s, but %s; what clients were told last: %v", n, patience, p.done(), p.last)
		}
	}
}

// done says how many commands of each class the preferred site has acknowledged. REQUIRES: mu.
func (p *patrons) done() string {
	done := map[string]int{}
	for class, keys := range p.classes {
		done[class] = len(keys)
	}
	return fmt.Sprint(done)
}

// leave ends all visits.
func (p *patrons) leave(t *testing.T) {
	t.Helper()
	p.stop()
	p.gone.Wait()
	if err := p.failed.Load(); err != nil {
		t.Errorf("a client was told %v", *err)
	}
}

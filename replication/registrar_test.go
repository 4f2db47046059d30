package replication

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// While a disk takes its time to keep what other sites are told, they are told what they were before: who speaks does not wait for it.
func TestTermsWhileWordsAreKept(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	defer store.Close()
	slow, keeping, goOn := false, make(chan struct{}), make(chan struct{})
	r, err := NewRegistrar(t.Context(), RegistrarOptions{
		Site: "bj", Fence: NewFence(Shard{Region: "bj"}, func(string) bool { return true }), Store: store, Heads: store.Heads, Homed: []string{"payment"},
		Keep: func(Words) error {
			if slow {
				close(keeping)
				<-goOn
			}
			return nil
		},
		NewID: func() string { return "a system" },
	})
	if err != nil {
		t.Fatal(err)
	}
	slow = true
	settled, told := make(chan error, 1), make(chan Terms, 1)
	go func() { settled <- r.settle(t.Context()) }()
	<-keeping
	go func() { told <- r.Terms() }()
	select {
	case terms := <-told:
		if terms.Epoch != 0 {
			t.Errorf("before it is kept what binds it, the site says %+v", terms)
		}
	case <-time.After(10 * time.Second):
		t.Error("who asks for the terms waits for the disk")
	}
	close(goOn)
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
	if terms := r.Terms(); terms.Epoch != 1 {
		t.Errorf("then it says %+v", terms)
	}
}

// refusing is a store that takes no appends, for a reason that may change.
type refusing struct {
	*memstore.Store
	why   error
	asked atomic.Int64
}

func (r *refusing) Append(context.Context, eventstore.Request) (eventstore.Receipt, error) {
	r.asked.Add(1)
	return eventstore.Receipt{}, r.why
}

// What cannot be put on record is tried again and again, and said once for each reason.
func TestRegistrarSaysOnceWhatItCannotSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &refusing{Store: memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}}), why: eventstore.ErrReadOnly}
		defer store.Close()
		var log bytes.Buffer
		r, err := NewRegistrar(t.Context(), RegistrarOptions{
			Site: "bj", Fence: NewFence(Shard{Region: "bj"}, func(string) bool { return true }), Store: store, Heads: store.Heads,
			Homed: []string{"payment"}, NewID: func() string { return "a system" }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, why := range []error{eventstore.ErrReadOnly, eventstore.ErrUnavailable} {
			store.why = why
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			r.record(ctx)
			stop()
		}
		if said, asked := strings.Count(log.String(), "level=WARN"), store.asked.Load(); said != 2 || asked < 50 {
			t.Errorf("asked %d times, of two reasons it is said %d times:\n%s", asked, said, log.String())
		}
	})
}

// Of sites that each let one in, none lets in a second one before the others have the first: that they have as many events of the roster does
// not say that they have the same. R16.
func TestJoinsAtSeveralSitesAtOnce(t *testing.T) {
	ctx := t.Context()
	names := []string{"bj", "sh", "sz"}
	stores := map[string]*memstore.Store{}
	for _, n := range names {
		stores[n] = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: n, Incarnation: 1}})
	}
	carry := func(from, to string) {
		t.Helper()
		log := eventstore.LogID{Site: from, Incarnation: 1}
		after := uint64(0)
		heads, _ := stores[to].Heads(ctx)
		for _, h := range heads {
			if h.Log == log {
				after = h.Seq
			}
		}
		var events []eventstore.Recorded
		for e, err := range stores[from].ReadLog(ctx, log, after) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if len(events) > 0 {
			if _, err := stores[to].Receive(ctx, events); err != nil {
				t.Fatal(err)
			}
		}
	}
	e, err := rosterEvent(RosterFounded, agreed{Cluster: "c", Sites: names, Homed: []string{"payment"}, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stores["bj"].Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: RosterStream(), Events: []eventstore.Event{e}}}}); err != nil {
		t.Fatal(err)
	}
	carry("bj", "sh")
	carry("bj", "sz")
	registrar := func(n string) *Registrar {
		r, err := NewRegistrar(ctx, RegistrarOptions{Site: n, Fence: NewFence(Shard{Region: n}, func(string) bool { return true }), Store: stores[n], Heads: stores[n].Heads,
			Homed: []string{"payment"}, Given: slices.DeleteFunc(slices.Clone(names), func(o string) bool { return o == n }), NewID: func() string { return "c" }, Silence: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	bj, sh, sz := registrar("bj"), registrar("sh"), registrar("sz")
	tell := func() { // heartbeats go over gRPC
		for _, x := range []*Registrar{bj, sh, sz} {
			terms := x.Terms()
			for _, y := range []*Registrar{bj, sh, sz} {
				if x != y {
					if err := y.Heard(x.o.Site, &terms); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	tell()
	join := func(r *Registrar, site string) error {
		_, err := r.Join(ctx, Member{Site: site, GRPC: site + ":1", Kafka: site + ":2"})
		return err
	}
	if err := join(bj, "da"); err != nil {
		t.Fatal(err)
	}
	if err := join(sz, "fa"); err != nil {
		t.Fatal(err)
	}
	carry("bj", "sh") // the topic of sz is slow
	if err := sh.read(ctx); err != nil {
		t.Fatal(err)
	}
	// fa has begun, and has all: it hears bj and sz.
	stores["fa"] = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "fa", Incarnation: 1}})
	carry("bj", "fa")
	carry("sz", "fa")
	fa := registrar("fa")
	terms := fa.Terms()
	if err := sz.Heard("fa", &terms); err != nil {
		t.Fatal(err)
	}
	tell()
	err = join(sz, "ga")
	sites := func(r *Registrar) (out []string) {
		for _, m := range r.Roster().Members {
			out = append(out, m.Site)
		}
		return out
	}
	if !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("sz lets a second site in, though neither bj nor sh has that it has let in the first: bj knows %v, sh %v, sz %v", sites(bj), sites(sh), sites(sz))
	}

	// When all have all, it is let in.
	stores["da"] = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "da", Incarnation: 1}})
	for _, to := range []string{"bj", "sh", "sz", "da", "fa"} {
		for _, from := range []string{"bj", "sz"} {
			if from != to {
				carry(from, to)
			}
		}
	}
	for _, r := range []*Registrar{bj, sh, sz, fa} {
		if err := r.read(ctx); err != nil {
			t.Fatal(err)
		}
	}
	tell()
	for _, r := range []*Registrar{fa, registrar("da")} {
		terms := r.Terms()
		if err := sz.Heard(r.o.Site, &terms); err != nil {
			t.Fatal(err)
		}
	}
	if err := join(sz, "ga"); err != nil {
		t.Errorf("all have the whole roster: %v", err)
	}
}

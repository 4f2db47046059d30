package replication

import (
	"bytes"
	"context"
	"log/slog"
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

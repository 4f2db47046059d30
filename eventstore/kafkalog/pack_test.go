package kafkalog

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// packing is a pack of a store's log that was read to its end.
type packing struct {
	*testing.T
	store   *memstore.Store
	writer  *writer
	parcels chan parcel
	idle    chan struct{}
	sent    uint64
}

// newPacking packs a log of so many events.
func newPacking(t *testing.T, events int, gather time.Duration) *packing {
	t.Helper()
	id := eventstore.LogID{Site: "sh", Incarnation: 1}
	o, err := Options{Brokers: []string{"unused"}, Gather: gather}.withDefaults(id)
	if err != nil {
		t.Fatal(err)
	}
	s := memstore.New(memstore.Options{LogID: id})
	p := &packing{T: t, store: s, parcels: make(chan parcel), idle: make(chan struct{})}
	p.writer = &writer{mirror: NewMirror(s, o), store: s, o: o, log: id, batchBytes: o.BatchBytes}
	p.record(events)
	ctx, cancel := context.WithCancel(t.Context())
	go p.writer.pack(ctx, eventstore.Position{}, eventstore.Dot{}, p.parcels, p.idle)
	t.Cleanup(func() {
		cancel()
		for range p.parcels { // pack closes it when it is done
		}
		s.Close()
	})
	for p.sent < uint64(events) {
		p.take()
	}
	return p
}

func (p *packing) record(events int) {
	p.Helper()
	for i := range events {
		if _, err := p.store.Append(p.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("order", strconv.Itoa(i)), Events: []eventstore.Event{{Type: "order.created.v1", Payload: []byte("{}")}},
		}}}); err != nil {
			p.Fatal(err)
		}
	}
}

// take takes the next parcel, and returns how many events it has.
func (p *packing) take() int {
	p.Helper()
	next := <-p.parcels
	if next.err != nil {
		p.Fatal(next.err)
	}
	if p.sent += uint64(next.events); next.last.Seq != p.sent {
		p.Fatalf("after %d events a parcel of %d ends with %s", p.sent-uint64(next.events), next.events, next.last)
	}
	return next.events
}

// ask says that there is nothing to send.
func (p *packing) ask() {
	p.Helper()
	select {
	case p.idle <- struct{}{}:
	case next := <-p.parcels:
		p.Fatalf("a parcel of %d events is made before it can be sent", next.events)
	}
}

// What is recorded while a parcel is on its way goes into one parcel; a log that is far ahead is encoded without being asked for.
func TestWhatComesMeanwhileGoesTogether(t *testing.T) {
	p := newPacking(t, 2*eventstore.DefaultMaxChunk+1, -1)
	for _, meanwhile := range []int{1, 3, 100} {
		p.record(meanwhile)
		p.ask()
		if got := p.take(); got != meanwhile {
			t.Errorf("of %d events that came while a parcel was on its way the next one has %d", meanwhile, got)
		}
	}
}

// What comes soon after a parcel gathers, unless somebody waits for the mirror.
func TestWhatComesSoonGathers(t *testing.T) {
	p := newPacking(t, 1, time.Second)
	p.ask()
	p.record(1)
	p.record(2)
	if got := p.take(); got != 3 {
		t.Errorf("of 3 events that came soon after a parcel the next one has %d", got)
	}
	p = newPacking(t, 1, 24*time.Hour)
	p.writer.mirror.waiting.Add(1)
	p.record(1)
	p.ask()
	if got := p.take(); got != 1 {
		t.Errorf("while somebody waits a parcel has %d events, want 1", got)
	}
}

// Who begins to wait for the mirror while events gather is not kept waiting until they have.
func TestWhoWaitsEndsTheGathering(t *testing.T) { synctest.Test(t, testWhoWaitsEndsTheGathering) }

func testWhoWaitsEndsTheGathering(t *testing.T) {
	p := newPacking(t, 1, time.Hour)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.writer.mirror.Wait(ended, eventstore.Position{Incarnation: 1, LSN: 2}); err == nil { // nobody mirrors
		t.Fatal("the mirror has what was never recorded")
	}
	for _, waits := range []bool{false, true} {
		begun := time.Now()
		p.ask()
		p.record(1)
		synctest.Wait() // they gather
		if waits {
			go func() {
				_ = p.writer.mirror.Wait(t.Context(), eventstore.Position{Incarnation: 1, LSN: 3}) // until the test ends
			}()
		}
		if got := p.take(); got != 1 || waits == (time.Since(begun) > 0) {
			t.Errorf("somebody waits: %v; %d events come after %s", waits, got, time.Since(begun))
		}
	}
}

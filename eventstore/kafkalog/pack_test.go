package kafkalog

import (
	"context"
	"strconv"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// What is recorded while a parcel is on its way goes into one parcel; a log that is far ahead is encoded without being asked for.
func TestWhatComesMeanwhileGoesTogether(t *testing.T) {
	const ahead = 2*eventstore.DefaultMaxChunk + 1
	s := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "sh", Incarnation: 1}})
	defer s.Close()
	record := func(events int) {
		t.Helper()
		for i := range events {
			if _, err := s.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", strconv.Itoa(i)), Events: []eventstore.Event{{Type: "order.created.v1", Payload: []byte("{}")}},
			}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	record(ahead)
	o, err := Options{Brokers: []string{"unused"}}.withDefaults(eventstore.LogID{Site: "sh", Incarnation: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{store: s, o: o, log: eventstore.LogID{Site: "sh", Incarnation: 1}, batchBytes: o.BatchBytes}
	ctx, cancel := context.WithCancel(t.Context())
	parcels, idle := make(chan parcel), make(chan struct{})
	go w.pack(ctx, eventstore.Position{}, eventstore.Dot{}, parcels, idle)
	defer func() {
		cancel()
		for range parcels { // pack closes it when it is done
		}
	}()
	sent := uint64(0)
	take := func() int {
		t.Helper()
		p := <-parcels
		if p.err != nil {
			t.Fatal(p.err)
		}
		if sent += uint64(p.events); p.last.Seq != sent {
			t.Fatalf("after %d events a parcel of %d ends with %s", sent-uint64(p.events), p.events, p.last)
		}
		return p.events
	}
	for sent < ahead {
		take()
	}
	for _, meanwhile := range []int{1, 3, 100} {
		record(meanwhile)
		select {
		case idle <- struct{}{}:
		case p := <-parcels:
			t.Fatalf("a parcel of %d events is made before it can be sent", p.events)
		}
		if got := take(); got != meanwhile {
			t.Errorf("of %d events that came while a parcel was on its way the next one has %d", meanwhile, got)
		}
	}
}

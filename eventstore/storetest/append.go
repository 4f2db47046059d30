package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
)

var (
	order = eventstore.Stream("order", "536365")
	stock = eventstore.Stream("inventory", "85123A/white heart")
)

var appendTests = []test{
	{"empty log", func(f *fixture) {
		id := eventstore.LogID{Site: "local", Incarnation: 1}
		f.equal("state", f.head(), eventstore.LogState{ID: id, Durable: at(0), Chain: eventstore.ChainStart(id)})
		f.equal("events", len(f.all(eventstore.Position{}, eventstore.Filter{})), 0)
		f.equal("stream", len(f.stream(order, 1)), 0)
		f.equal("version", f.version(order), uint64(0))
	}},

	{"envelope is kept whole", envelopeIsKept},
	{"expectations", expectations},

	{"receipt", func(f *fixture) {
		f.mustAppend(one(order, eventstore.NoStream, 2))
		r := one(order, eventstore.Exactly(2), 3)
		r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: stock, Events: events("inventory.received.v1", 2)})
		f.equal("receipt", f.mustAppend(r), eventstore.Receipt{
			Streams: []eventstore.StreamReceipt{{Stream: order, First: 3, Last: 5}, {Stream: stock, First: 1, Last: 2}},
			First:   at(3), Position: at(7), Dot: dot(7), Reached: eventstore.Local,
		})
		state := f.head()
		f.equal("durable", state.Durable, at(7))
		f.equal("seq", state.Seq, uint64(7))
		f.equal("streams", state.Streams, uint64(2))
		f.equal("version", f.version(order), uint64(5))
		f.equal("version", f.version(stock), uint64(2))
	}},

	{"several streams, all or none", func(f *fixture) {
		f.mustAppend(one(order, eventstore.Any, 1))
		r := eventstore.Request{Appends: []eventstore.StreamAppend{
			{Stream: eventstore.Stream("order", "new"), Expect: eventstore.NoStream, Events: events("order.created.v1", 1)},
			{Stream: order, Expect: eventstore.Exactly(7), Events: events("order.changed.v1", 1)},
			{Stream: stock, Expect: eventstore.Exists, Events: events("inventory.changed.v1", 1)},
		}}
		_, err := f.store.Append(f.ctx, r)
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) || !errors.Is(err, eventstore.ErrConflict) {
			f.Fatalf("append: %v, want a conflict", err)
		}
		f.equal("conflicts", conflict.Conflicts, []eventstore.StreamConflict{
			{Stream: order, Want: eventstore.Exactly(7), Got: 1},
			{Stream: stock, Want: eventstore.Exists, Got: 0},
		})
		f.equal("durable", f.head().Durable, at(1))
		f.equal("new stream", f.version(eventstore.Stream("order", "new")), uint64(0))
	}},

	{"batches and chain", batchesAndChain},
	{"requests that are refused", refusals},

	{"one of many wins", func(f *fixture) {
		const writers = 16
		var wg sync.WaitGroup
		won := make(chan eventstore.Receipt, writers)
		for range writers {
			wg.Go(func() {
				receipt, err := f.store.Append(f.ctx, one(order, eventstore.NoStream, 1))
				if err == nil {
					won <- receipt
				} else if !errors.Is(err, eventstore.ErrConflict) {
					f.Errorf("append: %v", err)
				}
			})
		}
		wg.Wait()
		f.equal("winners", len(won), 1)
		f.equal("version", f.version(order), uint64(1))
	}},

	{"counter under contention", func(f *fixture) {
		const writers, increments = 8, 25
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for done := 0; done < increments; {
					v, err := f.store.Version(f.ctx, order)
					if err == nil {
						_, err = f.store.Append(f.ctx, one(order, eventstore.Exactly(v), 1))
					}
					if err == nil {
						done++
					} else if !errors.Is(err, eventstore.ErrConflict) {
						f.Errorf("append: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		f.equal("version", f.version(order), uint64(writers*increments))
		checkDense(f, 0, f.all(eventstore.Position{}, eventstore.Filter{}), map[eventstore.StreamID]uint64{})
	}},

	{"cancelled context", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		if _, err := f.store.Append(ctx, one(order, eventstore.Any, 1)); !errors.Is(err, context.Canceled) {
			f.Fatalf("append: %v, want %v", err, context.Canceled)
		}
		f.equal("version", f.version(order), uint64(0))
	}},

	{"reopened", func(f *fixture) {
		f.mustAppend(one(order, eventstore.NoStream, 3))
		f.mustAppend(one(stock, eventstore.NoStream, 1))
		before, events := f.head(), f.all(eventstore.Position{}, eventstore.Filter{Chain: true})
		f.reopen()
		f.equal("state", f.head(), before)
		f.equal("events", f.all(eventstore.Position{}, eventstore.Filter{Chain: true}), events)
		f.mustAppend(one(order, eventstore.Exactly(3), 1))
		f.reopen()
		f.equal("version", f.version(order), uint64(4))
		last := f.all(at(4), eventstore.Filter{})
		if len(last) != 1 || last[0].HLC <= events[3].HLC {
			f.Fatalf("clock went back over a restart: %v, before %v", last[0].HLC, events[3].HLC)
		}
	}},
}

func envelopeIsKept(f *fixture) {
	id := uuid.MustParse("018f3c2e-0000-7000-8000-0123456789ab")
	tenant := eventstore.StreamID{Tenant: "acme", Category: "order", ID: "ü/1"}
	meta := eventstore.Metadata{
		Causation: "cause", Correlation: "start", Actor: "clerk-7",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "a=b",
	}
	own := eventstore.LogID{Site: "local", Incarnation: 1}
	known := eventstore.Vector{{Log: own, Seq: 1}}
	before := time.Now().Add(-time.Second)
	f.mustAppend(one(eventstore.Stream("order", "0"), eventstore.Any, 1))
	f.mustAppend(eventstore.Request{
		Tenant: "acme", ID: "command-1", Hash: eventstore.Hash{1, 2, 3}, Metadata: meta,
		Appends: []eventstore.StreamAppend{{
			Stream: tenant, Context: known,
			Events: []eventstore.Event{
				{
					ID: id, Type: "order.created.v2", SchemaVersion: 2, Kind: eventstore.KindCompensation, Encoding: eventstore.JSON,
					Payload: []byte(`{"a":1}`), Tags: []string{"stock:2", "customer:17850", "stock:2"}, KeyRef: 77,
				},
				{Type: "order.noted.v1"},
			},
		}},
	})
	f.reopen()
	got := f.stream(tenant, 1)
	f.equal("events", len(got), 2)
	if t := got[0].Time(); t.Before(before) || t.After(time.Now().Add(time.Second)) {
		f.Fatalf("event is of %s, the test began at %s", t, before)
	}
	if e := got[1].Event.ID; e.Version() != 7 || e.Variant() != uuid.RFC4122 || got[1].HLC <= got[0].HLC {
		f.Fatalf("second event has id %s and time %s after %s", e, got[1].HLC, got[0].HLC)
	}
	want := []eventstore.Recorded{{
		Position: at(2), Dot: eventstore.Dot{Log: own, Seq: 2},
		Event: eventstore.Event{
			ID: id, Type: "order.created.v2", SchemaVersion: 2, Kind: eventstore.KindCompensation, Encoding: eventstore.JSON,
			Payload: []byte(`{"a":1}`), Tags: []string{"customer:17850", "stock:2"}, KeyRef: 77,
		},
	}, {
		Position: at(3), Dot: eventstore.Dot{Log: own, Seq: 3},
		Event: eventstore.Event{
			ID: got[1].Event.ID, Type: "order.noted.v1", SchemaVersion: 1, Kind: eventstore.KindDomain, Encoding: eventstore.Protobuf,
		},
	}}
	for i := range want {
		w := &want[i]
		w.Batch, w.HLC = eventstore.Batch{FirstSeq: 2, Count: 2}, got[i].HLC
		w.Stream, w.Version, w.Cell = tenant, uint64(i)+1, eventstore.CellOf(tenant)
		w.CommandID, w.RequestHash, w.Metadata = "command-1", eventstore.Hash{1, 2, 3}, meta
		w.Context = known
	}
	f.equal("events", got, want)
}

// expectations shows S6.
func expectations(f *fixture) {
	cases := []struct {
		expect eventstore.Expect
		holds  [3]bool // by streams of 0, 1 and 2 events
	}{
		{eventstore.Any, [3]bool{true, true, true}},
		{eventstore.NoStream, [3]bool{true, false, false}},
		{eventstore.Exists, [3]bool{false, true, true}},
		{eventstore.Exactly(0), [3]bool{true, false, false}},
		{eventstore.Exactly(1), [3]bool{false, true, false}},
		{eventstore.Exactly(2), [3]bool{false, false, true}},
		{eventstore.Exactly(3), [3]bool{false, false, false}},
	}
	for i, c := range cases {
		for n, holds := range c.holds {
			s := eventstore.Stream("order", fmt.Sprintf("%d-%d", i, n))
			if n > 0 {
				f.mustAppend(one(s, eventstore.NoStream, n))
			}
			_, err := f.store.Append(f.ctx, one(s, c.expect, 1))
			if holds {
				if err != nil {
					f.Errorf("%s of a stream of %d events: %v, want it to hold", c.expect, n, err)
				}
				continue
			}
			want := &eventstore.ConflictError{Conflicts: []eventstore.StreamConflict{{Stream: s, Want: c.expect, Got: uint64(n)}}}
			var got *eventstore.ConflictError
			if !errors.As(err, &got) || !cmp.Equal(got, want) {
				f.Errorf("%s of a stream of %d events: %v, want %v", c.expect, n, err, want)
			}
		}
	}
}

// batchesAndChain shows S2, S3 and S5.
func batchesAndChain(f *fixture) {
	for i := range 20 {
		r := one(eventstore.Stream("order", fmt.Sprint(i%3)), eventstore.Any, 1+i%4)
		r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: stock, Events: events("inventory.changed.v1", 1+i%2)})
		receipt := f.mustAppend(r)
		batch := f.all(at(receipt.First.LSN-1), eventstore.Filter{})
		for _, e := range batch {
			f.equal("batch", e.Batch, eventstore.Batch{FirstSeq: receipt.First.LSN, Count: uint32(len(batch))})
		}
	}
	state := f.head()
	chain := eventstore.ChainStart(state.ID)
	got := f.all(eventstore.Position{}, eventstore.Filter{Chain: true})
	checkDense(f, 0, got, map[eventstore.StreamID]uint64{})
	for i := range got {
		e := &got[i]
		content := eventstore.ContentHash(eventstore.AppendContent(nil, e))
		chain = eventstore.NextChain(chain, e.Dot.Seq, e.HLC, e.Version, content)
		if e.Chain != chain {
			f.Fatalf("chain at %s is %x, computed %x", e.Position, e.Chain, chain)
		}
	}
	f.equal("chain of the log", state.Chain, chain)
	middle := f.all(at(10), eventstore.Filter{Chain: true})
	f.equal("chain read from the middle", middle, got[10:])
	for _, e := range f.all(at(10), eventstore.Filter{}) {
		f.equal("chain that was not asked for", e.Chain, eventstore.Hash{})
	}
}

func refusals(f *fixture) {
	event := func(change func(*eventstore.Event)) eventstore.Request {
		r := one(order, eventstore.Any, 1)
		change(&r.Appends[0].Events[0])
		return r
	}
	request := func(change func(*eventstore.Request)) eventstore.Request {
		r := one(order, eventstore.Any, 1)
		change(&r)
		return r
	}
	big := make([]byte, eventstore.MaxPayloadBytes+1)
	cases := []struct {
		name string
		r    eventstore.Request
		want error
	}{
		{"nothing asked", eventstore.Request{}, eventstore.ErrInvalid},
		{"no events", eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: order}}}, eventstore.ErrInvalid},
		{"no type", event(func(e *eventstore.Event) { e.Type = "" }), eventstore.ErrInvalid},
		{"kind", event(func(e *eventstore.Event) { e.Kind = 99 }), eventstore.ErrInvalid},
		{"tags", event(func(e *eventstore.Event) { e.Tags = []string{""} }), eventstore.ErrInvalid},
		{"stream", one(eventstore.Stream("Order", "1"), eventstore.Any, 1), eventstore.ErrInvalid},
		{"stream of receipts", one(eventstore.Stream(eventstore.ReceiptCategory, "1"), eventstore.Any, 1), eventstore.ErrInvalid},
		{"expectation", one(order, -3, 1), eventstore.ErrInvalid},
		{"another tenant's stream", request(func(r *eventstore.Request) { r.Tenant = "acme" }), eventstore.ErrInvalid},
		{"stream twice", request(func(r *eventstore.Request) { r.Appends = append(r.Appends, r.Appends[0]) }), eventstore.ErrInvalid},
		{"long id", request(func(r *eventstore.Request) { r.ID = strings.Repeat("x", eventstore.MaxRequestIDBytes+1) }), eventstore.ErrInvalid},
		{"unprintable id", request(func(r *eventstore.Request) { r.ID = "a\x00b" }), eventstore.ErrInvalid},
		{"payload", event(func(e *eventstore.Event) { e.Payload = big }), eventstore.ErrTooLarge},
		{"many events", one(order, eventstore.Any, eventstore.MaxRequestEvents+1), eventstore.ErrTooLarge},
		{"many bytes", request(func(r *eventstore.Request) {
			r.Appends[0].Events = events("order.changed.v1", 5)
			for i := range r.Appends[0].Events {
				r.Appends[0].Events[i].Payload = big[:eventstore.MaxPayloadBytes]
			}
		}), eventstore.ErrTooLarge},
		{"durability kafka", request(func(r *eventstore.Request) { r.Durability = eventstore.Kafka }), eventstore.ErrUnsupported},
		{"durability peer", request(func(r *eventstore.Request) { r.Durability = eventstore.Peer }), eventstore.ErrUnsupported},
	}
	for _, c := range cases {
		if _, err := f.store.Append(f.ctx, c.r); !errors.Is(err, c.want) {
			f.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	f.equal("durable", f.head().Durable, at(0))

	// What is exactly at the limits goes through.
	f.mustAppend(event(func(e *eventstore.Event) { e.Payload = big[:eventstore.MaxPayloadBytes] }))
	f.mustAppend(one(order, eventstore.Exactly(1), eventstore.MaxRequestEvents))
	f.reopen()
	got := f.stream(order, 1)
	f.equal("events", len(got), eventstore.MaxRequestEvents+1)
	f.equal("payload", len(got[0].Payload), eventstore.MaxPayloadBytes)
}

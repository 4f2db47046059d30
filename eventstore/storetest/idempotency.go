package storetest

import (
	"errors"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

var idempotencyTests = []test{
	{"duplicate returns the original receipt", func(f *fixture) {
		ask := func() eventstore.Request {
			r := one(order, eventstore.NoStream, 2)
			r.ID = "place-536365"
			r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: stock, Events: events("inventory.reserved.v1", 1)})
			return r
		}
		original := f.mustAppend(ask())
		f.equal("receipt", original, eventstore.Receipt{
			ID:      "place-536365",
			Streams: []eventstore.StreamReceipt{{Stream: order, First: 1, Last: 2}, {Stream: stock, First: 1, Last: 1}},
			First:   at(1), Position: at(3), Dot: dot(3),
		})
		f.mustAppend(one(order, eventstore.Exactly(2), 1))

		original.Duplicate = true
		f.equal("duplicate", f.mustAppend(ask()), original)
		f.reopen()
		f.equal("duplicate after reopening", f.mustAppend(ask()), original)
		f.equal("durable", f.head().Durable, at(4))

		receipt, hash, err := f.store.Receipt(f.ctx, "", "place-536365")
		if err != nil {
			f.Fatalf("receipt: %v", err)
		}
		f.equal("receipt", receipt, original)
		r := ask()
		if err := r.Normalize(); err != nil {
			f.Fatal(err)
		}
		f.equal("hash", hash, r.Hash)
	}},

	{"same id, other content", func(f *fixture) {
		r := one(order, eventstore.Any, 1)
		r.ID = "a"
		f.mustAppend(r)
		for range 2 {
			other := one(order, eventstore.Any, 2)
			other.ID = "a"
			if _, err := f.store.Append(f.ctx, other); !errors.Is(err, eventstore.ErrIDReused) {
				f.Fatalf("append: %v, want %v", err, eventstore.ErrIDReused)
			}
			f.reopen()
		}
		f.equal("durable", f.head().Durable, at(1))
	}},

	{"the caller's hash decides", func(f *fixture) {
		r := one(order, eventstore.Any, 1)
		r.ID, r.Hash = "a", eventstore.Hash{1}
		f.mustAppend(r)
		again := one(order, eventstore.Any, 5)
		again.ID, again.Hash = "a", eventstore.Hash{1}
		f.equal("duplicate", f.mustAppend(again).Duplicate, true)
		other := one(order, eventstore.Any, 1)
		other.ID, other.Hash = "a", eventstore.Hash{2}
		if _, err := f.store.Append(f.ctx, other); !errors.Is(err, eventstore.ErrIDReused) {
			f.Fatalf("append: %v, want %v", err, eventstore.ErrIDReused)
		}
	}},

	{"ids are of a tenant", func(f *fixture) {
		for _, tenant := range []string{"acme", "default", "zenith"} {
			s := eventstore.StreamID{Tenant: tenant, Category: "order", ID: "1"}
			r := one(s, eventstore.NoStream, 1)
			r.Tenant, r.ID = tenant, "same"
			f.equal("duplicate", f.mustAppend(r).Duplicate, false)
		}
		f.equal("durable", f.head().Durable, at(3))
	}},

	{"request without events", func(f *fixture) {
		r := eventstore.Request{ID: "nothing-to-do", Hash: eventstore.Hash{7}, Metadata: eventstore.Metadata{Actor: "clerk"}}
		original := f.mustAppend(r)
		f.equal("receipt", original, eventstore.Receipt{ID: "nothing-to-do", First: at(1), Position: at(1), Dot: dot(1)})
		f.reopen()
		original.Duplicate = true
		f.equal("duplicate", f.mustAppend(r), original)
		stream := eventstore.Stream(eventstore.ReceiptCategory, "nothing-to-do")
		got := f.stream(stream, 1)
		f.equal("events", len(got), 1)
		e := got[0]
		f.equal("type", e.Type, eventstore.ReceiptType)
		f.equal("kind", e.Kind, eventstore.KindSystem)
		f.equal("seq", e.Dot.Seq, uint64(1))
		f.equal("command", e.CommandID, "nothing-to-do")
		f.equal("hash", e.RequestHash, eventstore.Hash{7})
		f.equal("actor", e.Actor, "clerk")
	}},

	{"rejected request leaves its id free", func(f *fixture) {
		r := one(order, eventstore.Exists, 1)
		r.ID = "a"
		if _, err := f.store.Append(f.ctx, r); !errors.Is(err, eventstore.ErrConflict) {
			f.Fatalf("append: %v, want a conflict", err)
		}
		if _, _, err := f.store.Receipt(f.ctx, "", "a"); !errors.Is(err, eventstore.ErrNotFound) {
			f.Fatalf("receipt: %v, want %v", err, eventstore.ErrNotFound)
		}
		f.mustAppend(one(order, eventstore.NoStream, 1))
		f.equal("duplicate", f.mustAppend(r).Duplicate, false)
	}},

	{"duplicate is found before a conflict", func(f *fixture) {
		r := one(order, eventstore.NoStream, 1)
		r.ID = "a"
		f.mustAppend(r)
		f.equal("duplicate", f.mustAppend(r).Duplicate, true)
	}},

	{"one of many with the same id", func(f *fixture) {
		const writers = 32
		receipts := make([]eventstore.Receipt, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				r := one(order, eventstore.Any, 3)
				r.ID = "same"
				var err error
				if receipts[i], err = f.store.Append(f.ctx, r); err != nil {
					f.Errorf("append: %v", err)
				}
			})
		}
		wg.Wait()
		originals := 0
		for _, r := range receipts {
			if !r.Duplicate {
				originals++
			}
			r.Duplicate = false
			f.equal("receipt", r, eventstore.Receipt{
				ID: "same", Streams: []eventstore.StreamReceipt{{Stream: order, First: 1, Last: 3}}, First: at(1), Position: at(3), Dot: dot(3),
			})
		}
		f.equal("originals", originals, 1)
		f.equal("durable", f.head().Durable, at(3))
	}},
}

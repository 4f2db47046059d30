package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
)

// The suite's events are about accounts; a payload is an amount in decimal.
const (
	credited = "account.credited.v1" // the account has more
	closed   = "account.closed.v1"   // the account is gone
	garbled  = "account.garbled.v1"  // as credited, but it cannot be applied while the suite's projection is ill
	ignored  = "account.ignored.v1"  // the projection does not want it
)

// category is that of the accounts' streams.
const category = "account"

// errGarbled is why garbled events are parked.
var errGarbled = errors.New("garbled on purpose")

// applyKeys writes all kinds of values, in such a way that an event that counts twice, or not, or in another order shows.
func applyKeys(w projections.Keys, e *eventstore.Recorded, ill bool) error {
	id := e.Stream.ID
	account := "account:" + id
	amount, err := strconv.ParseInt(string(e.Payload), 10, 64)
	if err != nil {
		return fmt.Errorf("amount: %w", err)
	}
	w.HashAdd("totals", "events", 1)
	w.HashAdd("totals", "amount", amount)
	w.HashAdd(account, "balance", amount)
	w.HashSet(account, "last", strconv.FormatUint(e.Version, 10))
	w.HashSet(account, "v"+strconv.FormatUint(e.Version%3, 10), string(e.Payload))
	w.SortedAdd("by-amount", id, float64(amount)/3)
	w.Set("latest:"+id, append([]byte{0, 0xff, '\n'}, e.Payload...))
	if e.Version > 2 {
		w.HashDelete(account, "v"+strconv.FormatUint((e.Version-2)%3, 10))
	}
	if e.Type == closed {
		w.Delete(account)
		w.Delete("latest:" + id)
		w.SortedRemove("by-amount", id)
		w.HashAdd("totals", "closed", 1)
	}
	if e.Type == garbled && ill {
		return errGarbled // after it has written: nothing of that may stay
	}
	return nil
}

// applyRows writes one row for an event, two for every third.
func applyRows(w projections.Rows, e *eventstore.Recorded, ill bool) error {
	amount, err := strconv.ParseInt(string(e.Payload), 10, 64)
	if err != nil {
		return fmt.Errorf("amount: %w", err)
	}
	w.Insert(Table, e.Stream.ID, e.Version, amount, e.Time())
	if e.Version%3 == 0 {
		w.Insert(Table, e.Stream.ID, e.Version, -amount, e.Time())
	}
	if e.Type == garbled && ill {
		return errGarbled
	}
	return nil
}

// suite is the suite for one kind of writer.
type suite[W any] struct {
	open  func(t testing.TB) Storage[W]
	apply func(w W, e *eventstore.Recorded, ill bool) error
}

// patient is the suite's projection, with its health: as long as it is ill, garbled events cannot be applied.
type patient[W any] struct {
	projections.Projection[W]
	ill *atomic.Bool
}

func (s *suite[W]) projection(version int) patient[W] {
	ill := new(atomic.Bool)
	return patient[W]{ill: ill, Projection: projections.Projection[W]{
		Name: Name, Version: version, Types: []string{credited, closed, garbled}, Categories: []string{category},
		Apply: func(w W, e *eventstore.Recorded) error { return s.apply(w, e, ill.Load()) },
	}}
}

// account returns the stream of the i-th account.
func account(i int) eventstore.StreamID {
	return eventstore.Stream(category, "a/"+strconv.Itoa(i)+":é")
}

// event returns a new event of a type.
func event(typ string, amount int) eventstore.Event {
	return eventstore.Event{Type: typ, Payload: []byte(strconv.Itoa(amount))}
}

// append1 appends events to one stream and returns where the last stands.
func append1(t testing.TB, log *memstore.Store, stream eventstore.StreamID, events ...eventstore.Event) projections.Cursor {
	t.Helper()
	r, err := log.Append(context.Background(), eventstore.Request{
		Appends: []eventstore.StreamAppend{{Stream: stream, Events: events}},
	})
	if err != nil {
		t.Fatalf("append to the suite's log: %v", err)
	}
	state, err := log.Log(context.Background())
	if err != nil {
		t.Fatalf("read the suite's log: %v", err)
	}
	return projections.Cursor{Position: r.Position, Seq: state.Seq}
}

// grow appends n events to the log, spread over some accounts, of all types but garbled.
func grow(t testing.TB, log *memstore.Store, n int) {
	t.Helper()
	head, err := log.Log(context.Background())
	if err != nil {
		t.Fatalf("read the suite's log: %v", err)
	}
	for i := int(head.Seq); i < int(head.Seq)+n; i++ {
		typ := credited
		switch {
		case i%13 == 12:
			typ = ignored
		case i%17 == 16:
			typ = closed
		}
		append1(t, log, account(i%7), event(typ, i*i%1000-300))
	}
}

// read returns the events of the log after a cursor that the projection wants, all of other logs among them, and the cursor behind them.
func read(t testing.TB, log *memstore.Store, after projections.Cursor) ([]eventstore.Recorded, projections.Cursor) {
	t.Helper()
	var events []eventstore.Recorded
	state, err := log.Log(context.Background())
	if err != nil {
		t.Fatalf("read the suite's log: %v", err)
	}
	own, to := state.ID, after
	for e, err := range log.ReadAll(context.Background(), after.Position, eventstore.Filter{}) {
		if err != nil {
			t.Fatalf("read the suite's log: %v", err)
		}
		to.Position = e.Position
		if e.Dot.Log == own {
			to.Seq = e.Dot.Seq
		}
		if e.Type != ignored || e.Dot.Log != own {
			events = append(events, e)
		}
	}
	return events, to
}

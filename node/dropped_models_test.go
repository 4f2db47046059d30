package node

import (
	"context"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
	"github.com/tributary-es/tributary/projections/memview"
)

// The beginning of streams was dropped, and events of other sites come into them. What knew all of its stream is applied, what did
// not parks its stream, which cannot be judged any more; the projection goes on, now and at its next start.
func TestEventsOfOthersInDroppedStreams(t *testing.T) {
	ctx := t.Context()
	store, err := pebblestore.Open(filepath.Join(t.TempDir(), "store"), &pebblestore.Options{Site: "bj", OpenArchive: openBucket, TailBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	file, err := keyfile.Open(t.TempDir(), keyfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	note := func(to eventstore.Appender, order string) {
		t.Helper()
		if _, err := to.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("order", order), Expect: eventstore.Any, Events: []eventstore.Event{{Type: "order.noted.v1", Payload: []byte(order)}},
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	own := func(of eventstore.Replica, log eventstore.LogID) (events []eventstore.Recorded) {
		t.Helper()
		for e, err := range of.ReadLog(ctx, log, 0) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		return events
	}
	receive := func(to eventstore.Replica, events []eventstore.Recorded) {
		t.Helper()
		if _, err := to.Receive(ctx, events); err != nil {
			t.Fatal(err)
		}
	}
	state, err := store.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sh, gz := eventstore.LogID{Site: "sh", Incarnation: 1}, eventstore.LogID{Site: "gz", Incarnation: 1}
	near, far := memstore.New(memstore.Options{LogID: sh}), memstore.New(memstore.Options{LogID: gz})
	for range 6 {
		note(store, "1")
		note(store, "2")
	}
	receive(near, own(store, state.ID))
	note(near, "1") // it knew all of its stream, not all of the log
	note(far, "2")  // it knew nothing
	note(store, "3")

	log := withheld{dropping{sealed.New(store, file, file.ID().String()), store}}
	view := memview.NewKeys(projections.Projection[projections.Keys]{
		Name: "orders", Version: 1, Categories: []string{"order"},
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			w.HashAdd("orders", e.Stream.ID, 1)
			return nil
		},
		History: counting.New(log, counting.Rules{
			AllCount: func(string) bool { return false },
			Void:     func(string, []eventstore.Recorded) (map[eventstore.Dot]bool, error) { return nil, nil },
		}),
	})
	if err := projections.Replay(ctx, log, view, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Archive(ctx, pebblestore.ArchiveOptions{To: t.TempDir(), SegmentBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if report, err := store.Drop(ctx, pebblestore.DropOptions{Before: eventstore.Position{Incarnation: 1, LSN: 9}}); err != nil || report.Events == 0 {
		t.Fatalf("dropped %+v, %v", report, err)
	}
	receive(store, own(near, sh))
	receive(store, own(far, gz))
	note(store, "3")
	for range 2 { // the second time stands for the next start
		note(store, "1") // knows all that the log has
		head, err := store.Log(ctx)
		if err != nil {
			t.Fatal(err)
		}
		runner := projections.NewRunner(log, view, projections.Options{})
		running, stop := context.WithTimeout(ctx, 20*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- runner.Run(running) }()
		if err := runner.Await(running, head.Durable); err != nil {
			t.Errorf("the projection does not come to %s: %v", head.Durable, err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatalf("the projection has stopped: %v", err)
		}
	}
	parked, err := view.Parked(ctx)
	if err != nil || len(parked) != 1 || parked[0].Stream.ID != "2" || !strings.Contains(parked[0].Reason, "dropped") {
		t.Errorf("parked are %v, %v; want the event of order 2 that did not know its stream", parked, err)
	}
	got, err := view.Hash(ctx, "orders")
	if want := map[string]string{"1": "9", "2": "6", "3": "2"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("the model has %v of the orders' events, %v; want %v", got, err, want)
	}
}

package restsync_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/restsync"
)

// A program that is moved over piece by piece is asked for its changes, and each becomes an event: its ID names the request, so that a
// change that is given again is recorded once.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"changes": [
			{"key": "order-17", "at": 1772600767891000000, "data": {"status": "placed"}},
			{"key": "order-17", "at": 1772600768123000000, "data": {"status": "paid"}}
		], "next": ""}`)
	}))
	defer old.Close()
	store := memstore.New(memstore.Options{}) // the server's client.Client, in real life
	defer store.Close()

	done := make(chan struct{}, 1)
	syncer, err := restsync.New(restsync.Options{URL: old.URL, Apply: func(ctx context.Context, changes []restsync.Change) error {
		for _, c := range changes {
			_, err := store.Append(ctx, eventstore.Request{ID: c.ID, Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("legacy", c.Key),
				Events: []eventstore.Event{{Type: "legacy.changed.v1", Encoding: eventstore.JSON, Payload: c.Data}},
			}}})
			if err != nil {
				return err // asked again, from where it had come to
			}
		}
		select {
		case done <- struct{}{}:
		default:
		}
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "progress-") // a folder that stays, in real life
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// Without Progress it would begin with the first change at each start.
	progress := replication.NewProgressFile(filepath.Join(dir, "progress.json"))
	orchestrator := replication.NewSyncOrchestrator(replication.OrchestratorOptions{Progress: progress})
	if err := orchestrator.Add("orders", syncer); err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orchestrator.Run(ctx) }()
	<-done
	for from := int64(0); from == 0; time.Sleep(time.Millisecond) { // until it is kept how far it is, to end here
		if from, err = progress.Load("orders"); err != nil {
			log.Fatal(err)
		}
	}
	stop()
	fmt.Println(<-ended)

	for e, err := range store.Read(context.Background(), eventstore.Stream("legacy", "order-17"), 1) {
		fmt.Println(e.Version, string(e.Payload), err)
	}
	// Output:
	// context canceled
	// 1 {"status": "placed"} <nil>
	// 2 {"status": "paid"} <nil>
}

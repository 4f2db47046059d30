package pgsync_test

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/pgsync"
)

// Tables of a program that is moved over are followed until the program is interrupted: each change of a row becomes an event, whose
// request has the ID of the change, so that one that is given again is recorded once. docs/syncers.md says how to get a database that
// can be followed.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store := memstore.New(memstore.Options{}) // the server's client.Client, in real life
	defer store.Close()

	syncer, err := pgsync.New(pgsync.Options{
		URL: "postgres://tributary:secret@127.0.0.1:5432/shop", Tables: []string{"orders", "customers"},
		Apply: func(ctx context.Context, changes []pgsync.Change) error {
			for _, c := range changes {
				payload, err := json.Marshal(c)
				if err != nil {
					return err
				}
				if _, err = store.Append(ctx, eventstore.Request{ID: c.ID, Appends: []eventstore.StreamAppend{{
					Stream: eventstore.Stream("row", strings.Join(append([]string{c.Table}, c.KeyOf()...), "/")),
					Events: []eventstore.Event{{Type: "row.changed.v1", Encoding: eventstore.JSON, Payload: payload}},
				}}}); err != nil {
					return err // given again
				}
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	// Without Progress, all rows that are there would be read again at each start, under IDs of their own.
	orchestrator := replication.NewSyncOrchestrator(replication.OrchestratorOptions{Progress: replication.NewProgressFile("progress.json")})
	if err := orchestrator.Add("shop", syncer); err != nil {
		log.Fatal(err)
	}
	if err := orchestrator.Run(ctx); !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

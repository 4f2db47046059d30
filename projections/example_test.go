package projections_test

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// A projection counts what members of a loyalty programme have collected; a runner keeps its model up to date, and a
// reader waits for its own write.
func Example() {
	points := projections.Projection[projections.Keys]{
		Name: "points", Version: 1, Types: []string{"points.collected.v1"},
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			w.HashAdd("member:"+e.Stream.ID, "collections", 1)
			return nil
		},
	}
	log, model := memstore.New(memstore.Options{}), memview.NewKeys(points)
	runner := projections.NewRunner(log, model, quiet)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- runner.Run(ctx) }()

	receipt, err := log.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("points", "17850"),
		Events: []eventstore.Event{{Type: "points.collected.v1"}, {Type: "points.collected.v1"}},
	}}})
	if err != nil {
		fmt.Println(err)
	}
	if err := runner.Await(ctx, receipt.Position); err != nil {
		fmt.Println(err)
	}
	collections, err := model.HashField(ctx, "member:17850", "collections")
	fmt.Println(collections, err)
	cancel()
	fmt.Println(<-done)
	// Output:
	// 2 <nil>
	// <nil>
}

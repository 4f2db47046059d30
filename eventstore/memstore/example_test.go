package memstore_test

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func Example() {
	ctx := context.Background()
	store := memstore.New(memstore.Options{})
	defer store.Close()

	order := eventstore.Stream("order", "536365")
	receipt, err := store.Append(ctx, eventstore.Request{
		ID: "place-536365",
		Appends: []eventstore.StreamAppend{{
			Stream: order, Expect: eventstore.NoStream,
			Events: []eventstore.Event{{Type: "order.created.v1", Encoding: eventstore.JSON, Payload: []byte(`{"lines":7}`)}},
		}},
	})
	fmt.Println(receipt.Position, err)

	_, err = store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: order, Expect: eventstore.NoStream, Events: []eventstore.Event{{Type: "order.created.v1"}},
	}}})
	fmt.Println(err)

	for e, err := range store.Read(ctx, order, 1) {
		fmt.Println(e.Version, e.Type, string(e.Payload), err)
	}
	// Output:
	// 1-1 <nil>
	// conflict: stream default/order/536365: want no stream, is at version 1
	// 1 order.created.v1 {"lines":7} <nil>
}

package groups_test

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func Example() {
	ctx := context.Background()
	store := memstore.New(memstore.Options{})
	defer store.Close()
	for _, order := range []string{"A", "B"} {
		_, err := store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("order", order),
			Events: []eventstore.Event{{Type: "order.created.v1"}, {Type: "order.shipped.v1"}},
		}}})
		if err != nil {
			fmt.Println(err)
		}
	}

	all, err := groups.Open(ctx, store, groups.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer all.Close()
	if _, err := all.Create(ctx, "mailer", groups.Settings{Categories: []string{"order"}}); err != nil {
		fmt.Println(err)
	}
	member, err := all.Join(ctx, "mailer", "worker-1", 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 4 {
		d, err := member.Next(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Event.Stream.ID, d.Event.Version, d.Event.Type, d.Ack())
	}
	fmt.Println(member.Flush(ctx))
	// Output:
	// A 1 order.created.v1 <nil>
	// B 1 order.created.v1 <nil>
	// A 2 order.shipped.v1 <nil>
	// B 2 order.shipped.v1 <nil>
	// <nil>
}

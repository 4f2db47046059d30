package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
)

func Example() {
	ctx := context.Background()
	addr, stop := exampleServer(ctx) // tributary serve, in real life
	defer stop()

	c, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	account := eventstore.Stream("account", "7")
	open := eventstore.Request{ID: "open-7", Appends: []eventstore.StreamAppend{{
		Stream: account, Expect: eventstore.NoStream,
		Events: []eventstore.Event{{Type: "account.opened.v1", Encoding: eventstore.JSON, Payload: []byte(`{}`)}},
	}}}
	receipt, err := c.Append(ctx, open)
	fmt.Println("opened at", receipt.Position, err)
	receipt, err = c.Append(ctx, open) // the same request
	fmt.Println("again:", receipt.Duplicate, err)

	open.ID = "open-7-too"
	_, err = c.Append(ctx, open)
	var conflict *eventstore.ConflictError
	fmt.Println("conflict:", errors.As(err, &conflict), conflict.Conflicts[0].Got)

	for e, err := range c.Read(ctx, account, 1) {
		fmt.Println(e.Version, e.Type, err)
	}
	// Output:
	// opened at 1-1 <nil>
	// again: true <nil>
	// conflict: true 1
	// 1 account.opened.v1 <nil>
}

// exampleServer runs a server in this process, on a store in memory.
func exampleServer(ctx context.Context) (addr string, stop func()) {
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	store := memstore.New(memstore.Options{})
	if err := s.Register(&storeapi.ServiceDesc, &storeapi.Service{Store: store, Failure: s.Failure}); err != nil {
		log.Fatal(err)
	}
	if err := s.Listen(ctx); err != nil {
		log.Fatal(err)
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- s.Run(running) }()
	return s.GRPCAddr(), func() {
		cancel()
		if err := errors.Join(<-ended, store.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

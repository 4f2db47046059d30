// Command accounts is a Go program on the store API, in a module of its own: it opens an account in a running server's log and
// pays into it, unless somebody else was faster.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
)

func main() {
	addr := "127.0.0.1:9090" // of a server's gRPC
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	if err := run(context.Background(), addr); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) (err error) {
	store, err := client.Dial(ctx, addr, nil) // gRPC, such as 127.0.0.1:9090
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	account := eventstore.Stream("account", "8")
	record := func(expect eventstore.Expect, typ, payload string) error {
		receipt, err := store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: account, Expect: expect,
			Events: []eventstore.Event{{Type: typ, Encoding: eventstore.JSON, Payload: []byte(payload)}},
		}}})
		if err == nil {
			fmt.Println(typ, "at", receipt.Position)
		}
		return err
	}
	if err := record(eventstore.NoStream, "account.opened.v1", `{"owner":"9"}`); err != nil && !errors.Is(err, eventstore.ErrConflict) {
		return err // a conflict: it is open already
	}
	version := uint64(0)
	for e, err := range store.Read(ctx, account, 1) {
		if err != nil {
			return err
		}
		fmt.Println("version", e.Version, e.Type, string(e.Payload))
		version = e.Version
	}
	return record(eventstore.Exactly(version), "account.paid_in.v1", `{"amount":"5.00"}`)
}

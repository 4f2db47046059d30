package client_test

import (
	"errors"
	"testing"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/storetest"
)

// remote is a client together with the server and the store behind it, which are closed with it.
type remote struct {
	*client.Client
	server *serving
	store  eventstore.Store
}

func (r *remote) Close() error {
	err := r.Client.Close()
	r.server.stop()
	return errors.Join(err, r.store.Close())
}

// A client answers as the store behind its server does. Request ids of the client's own would be the one difference.
// Invariant A2.
func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Open: func(t testing.TB) eventstore.Store {
			store := memstore.New(memstore.Options{})
			server := serve(t, "127.0.0.1:0", store)
			c, err := client.Dial(t.Context(), server.addr, &client.Options{NoRequestIDs: true})
			if err != nil {
				t.Fatal(err)
			}
			return &remote{c, server, store}
		},
	})
}

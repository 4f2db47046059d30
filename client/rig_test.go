package client_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serving is a server of the store API.
type serving struct {
	addr string
	stop func() // as SIGTERM does; returns when it is gone
}

// serve has a server listen on addr until the test ends; port 0 takes a free one.
func serve(t testing.TB, addr string, store eventstore.Store) *serving {
	t.Helper()
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: addr})
	frames, _ := store.(eventstore.FrameReader)
	if err := s.Register(&storeapi.ServiceDesc, &storeapi.Service{Store: store, Frames: frames, Failure: s.Failure}); err != nil {
		t.Fatal(err)
	}
	return run(t, s)
}

// serveGroups is serve with the groups of the store, on a free port.
func serveGroups(t testing.TB, store eventstore.Store, all *groups.Groups) *serving {
	t.Helper()
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	if err := errors.Join(
		s.Register(&storeapi.ServiceDesc, &storeapi.Service{Store: store, Failure: s.Failure}),
		s.Register(&storev1.ConsumerGroups_ServiceDesc, &server.Groups{Groups: all}),
	); err != nil {
		t.Fatal(err)
	}
	return run(t, s)
}

// openGroups returns a store's groups, which are closed when the test ends.
func openGroups(t testing.TB, store eventstore.Store) *groups.Groups {
	t.Helper()
	all, err := groups.Open(t.Context(), store, groups.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all.Close(); err != nil {
			t.Error(err)
		}
	})
	return all
}

func run(t testing.TB, s *server.Server) *serving {
	t.Helper()
	if err := s.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	out := &serving{addr: s.GRPCAddr()}
	out.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(out.stop)
	return out
}

// memory returns a store that is closed when the test ends.
func memory(t testing.TB) *memstore.Store {
	t.Helper()
	store := memstore.New(memstore.Options{})
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

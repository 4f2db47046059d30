package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// An event that came from another site late is marked for who reads it over the wire, however it is read, as it is in the store. A2.
func TestLateEventsAreMarked(t *testing.T) {
	stream := eventstore.Stream("cart", "1")
	far := memstore.New(memstore.Options{
		LogID: eventstore.LogID{Site: "far", Incarnation: 1}, Clock: hlc.New(func() time.Time { return time.Now().Add(-time.Minute) }),
	})
	onDisk, err := pebblestore.Open(t.TempDir(), &pebblestore.Options{Site: "near"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := onDisk.Close(); err != nil {
			t.Error(err)
		}
	})
	append1 := func(to eventstore.Store, id string) {
		t.Helper()
		if _, err := to.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{
			{Stream: stream, Events: []eventstore.Event{{Type: "cart.changed.v1"}, {Type: "cart.changed.v1"}}},
			{Stream: eventstore.Stream("cart", id), Events: []eventstore.Event{{Type: "cart.changed.v1"}}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	append1(far, "far")
	var late []eventstore.Recorded
	for e, err := range far.ReadLog(t.Context(), eventstore.LogID{Site: "far", Incarnation: 1}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		late = append(late, e)
	}
	for name, store := range map[string]interface {
		eventstore.Store
		eventstore.Replica
	}{"memory": memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "near", Incarnation: 1}}), "disk": onDisk} {
		t.Run(name, func(t *testing.T) {
			append1(store, "near")
			if _, err := store.Receive(t.Context(), slices.Clone(late)); err != nil {
				t.Fatal(err)
			}
			append1(store, "near")
			c, err := client.Dial(t.Context(), serve(t, "127.0.0.1:0", store).addr, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			marked := 0
			for what, read := range map[string]func(eventstore.Store) (all []eventstore.Recorded, err error){
				"the log": func(s eventstore.Store) ([]eventstore.Recorded, error) {
					return all(s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}))
				},
				"a part": func(s eventstore.Store) ([]eventstore.Recorded, error) {
					return all(s.ReadAll(t.Context(), eventstore.Position{Incarnation: 1, LSN: 3}, eventstore.Filter{Categories: []string{"cart"}}))
				},
				"backwards": func(s eventstore.Store) ([]eventstore.Recorded, error) {
					return all(s.ReadAllBackwards(t.Context(), eventstore.Position{}, eventstore.Filter{}))
				},
				"the stream": func(s eventstore.Store) ([]eventstore.Recorded, error) { return all(s.Read(t.Context(), stream, 2)) },
				"live":       func(s eventstore.Store) ([]eventstore.Recorded, error) { return followed(t.Context(), s, 9) },
			} {
				want, err := read(store)
				got, gotErr := read(c)
				if diff := cmp.Diff(want, got); diff != "" || errors.Join(err, gotErr) != nil {
					t.Errorf("%s (-store +client): %v, %v\n%s", what, err, gotErr, diff)
				}
				for i := range got {
					if got[i].Revises {
						marked++
					}
				}
			}
			if marked != 9 { // both late events of the stream each time, of which the read from version 2 gives one
				t.Errorf("%d events are marked, want 9", marked)
			}
		})
	}
}

func all(events func(func(eventstore.Recorded, error) bool)) (out []eventstore.Recorded, err error) {
	for e, err := range events {
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

// followed returns the first events of a subscription.
func followed(ctx context.Context, s eventstore.Store, n int) (out []eventstore.Recorded, err error) {
	sub, err := s.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{})
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	for len(out) < n {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return out, err
		}
		out = append(out, chunk.Events...)
	}
	return out, nil
}

package projections

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// TestFeedIsBounded: a consumer that cannot go on costs memory for a bounded number of events and bytes, and then gets
// every event in order.
func TestFeedIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		events               uint64
		payload, limit, most int
	}{
		"by events": {events: 1000, payload: 1, limit: 100, most: 100 + 50},
		"by bytes":  {events: 40, payload: 4 << 20, limit: 1 << 20, most: maxQueued/(4<<20) + 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := memstore.New(memstore.Options{})
				payload := make([]byte, test.payload)
				for range test.events {
					_, err := log.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
						Stream: eventstore.Stream("x", "1"), Events: []eventstore.Event{{Type: "x.v1", Payload: payload}},
					}}})
					if err != nil {
						t.Fatal(err)
					}
				}
				state, err := log.Log(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				f := startFeed(t.Context(), chunked{log}, state.ID, "x", wanted{types: map[string]bool{"x.v1": true}}, Cursor{}, test.limit)
				defer f.stop()
				synctest.Wait()
				if n, _ := f.waiting(); n == 0 || n > test.most {
					t.Errorf("%d events are queued, want at most %d", n, test.most)
				}
				var next uint64 = 1
				for next <= test.events {
					b, ok, err := f.take(test.limit)
					if err != nil {
						t.Fatal(err)
					}
					for i := range b.events {
						if b.events[i].Dot.Seq != next {
							t.Fatalf("seq %d came, want %d", b.events[i].Dot.Seq, next)
						}
						next++
					}
					if !ok {
						<-f.arrived
					}
				}
			})
		})
	}
}

// chunked gives chunks of at most 50 events, and of one when they are large.
type chunked struct{ *memstore.Store }

func (c chunked) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	f.MaxChunk = min(f.MaxChunk, 50)
	for e, err := range c.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			return nil, err
		}
		if len(e.Payload) > 1<<20 {
			f.MaxChunk = 1
		}
		break
	}
	return c.Store.Subscribe(ctx, after, f)
}

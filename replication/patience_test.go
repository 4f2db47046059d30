package replication

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// slowTopic is a topic whose brokers take their time for each of so many answers; then it is read, or has an error.
type slowTopic struct {
	*memTopic
	answers int
	each    time.Duration
	err     error
	lost    bool // nothing is in it any more
}

func (s *slowTopic) Ends(ctx context.Context, answered func()) ([]eventstore.LogHead, error) {
	for range s.answers {
		select {
		case <-time.After(s.each):
			answered()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.lost {
		return nil, s.err
	}
	return s.ends, s.err
}

// A site that is started again waits for a topic that is slow to be read, and not for one that is tried in vain.
func TestSlowTopicIsNoLostTopic(t *testing.T) {
	for _, c := range []struct {
		what       string
		topic      slowTopic
		life       bool
		from, upTo time.Duration
	}{
		{"a topic that is slow", slowTopic{answers: 9, each: 5 * time.Second}, false, 45 * time.Second, 46 * time.Second},
		{"a topic that is read no further than before", slowTopic{answers: 2, each: 100 * time.Millisecond, err: errors.New("nobody leads the partition")}, true, 10 * time.Second, 12 * time.Second},
		{"a topic that is empty", slowTopic{answers: 1, each: time.Second, lost: true}, true, 11 * time.Second, 12 * time.Second},
		{"a topic that never answers", slowTopic{answers: 1, each: time.Hour}, true, 10 * time.Second, 11 * time.Second},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "a", Incarnation: 1}})
				if _, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
					Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
				}}}); err != nil {
					t.Fatal(err)
				}
				c.topic.memTopic = newMemTopic(store)
				var err error
				if c.topic.ends, err = store.Heads(t.Context()); err != nil {
					t.Fatal(err)
				}
				site, err := NewSite(Options{
					Config: Config{Site: "a", ClockWait: -1}, Store: store, Topic: &c.topic, Peers: map[string]Peer{"b": nobody{}}, Links: map[string]Link{},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				begun := time.Now()
				go func() { ended <- site.Run(ctx) }()
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				var life *LifeError
				for running := true; running && site.Writable() != nil; {
					select {
					case err := <-ended:
						if running = false; !errors.As(err, &life) {
							t.Errorf("the site ends with %v", err)
						}
					case <-tick.C:
					}
				}
				took := time.Since(begun)
				if cancel(); life == nil {
					if err := <-ended; err != nil {
						t.Error(err)
					}
				}
				if life != nil && strings.Contains(life.Why, "is empty") != c.topic.lost {
					t.Errorf("it begins another life because %s", life.Why)
				}
				if (life != nil) != c.life || took < c.from || took > c.upTo {
					t.Errorf("after %s the site wants another life: %v; want that after %s to %s: %t", took, life, c.from, c.upTo, c.life)
				}
			})
		})
	}
}

// nobody is a site that never answers.
type nobody struct{}

func (nobody) Pull(ctx context.Context, _ Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	<-ctx.Done()
	return chain, nil, ctx.Err()
}

func (nobody) Meet(ctx context.Context, _ <-chan Heartbeat, _ func(context.Context, Heartbeat) error) error {
	<-ctx.Done()
	return ctx.Err()
}

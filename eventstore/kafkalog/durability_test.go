package kafkalog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/durable"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
)

func inTopic(size int) eventstore.Request {
	r := request(size)
	r.Durability = eventstore.Kafka
	return r
}

// withMirror returns a store whose durability Kafka a mirror keeps.
func withMirror(s eventstore.Store, m *kafkalog.Mirror) *durable.Store {
	return durable.New(s, map[eventstore.Durability]durable.Keeper{eventstore.Kafka: m})
}

func TestDurabilityKafka(t *testing.T) {
	onServers(t, func(t *testing.T, broker server) {
		s := newStore(t)
		o := fast(broker.Addr())
		o.RequestTimeout = 20 * time.Second // a paused broker is only slow
		mirror := kafkalog.NewMirror(s, o)
		store := withMirror(s, mirror)
		ctx := context.Background()

		if _, err := store.Append(ctx, inTopic(1)); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatalf("before the mirror runs: %v", err)
		}
		run, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- mirror.Run(run) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("mirror ended with %v", err)
			}
		}()
		if err := mirror.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if seq := head(t, s).Seq; seq != 0 {
			t.Fatalf("a refused append left %d events", seq)
		}

		r := inTopic(3)
		receipt, err := store.Append(ctx, r)
		if err != nil || receipt.Reached != eventstore.Kafka || receipt.Duplicate {
			t.Fatalf("receipt %+v, %v", receipt, err)
		}
		if events, _ := readForeign(t, broker.Addr(), topicOf(t, s)); len(events) != 3 {
			t.Fatalf("acknowledged with %d events in the topic", len(events))
		}
		if again, err := store.Append(ctx, r); err != nil || !again.Duplicate || again.Position != receipt.Position || again.Reached != eventstore.Kafka {
			t.Fatalf("repeated: %+v, %v", again, err)
		}
		if local, err := store.Append(ctx, request(1)); err != nil || local.Reached > eventstore.Kafka {
			t.Fatalf("local: %+v, %v", local, err)
		}

		// The broker hangs: the append is durable here and says that it is not there.
		if err := broker.Pause(); err != nil {
			t.Fatal(err)
		}
		r = inTopic(2)
		short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		receipt, err = store.Append(short, r)
		stop()
		if !errors.Is(err, eventstore.ErrDurabilityTimeout) || receipt.Reached != eventstore.Local || receipt.Position != head(t, s).Durable {
			t.Fatalf("receipt %+v, %v with a broker that hangs", receipt, err)
		}
		if got, _, err := store.Receipt(ctx, "", r.ID); err != nil || got.Reached != eventstore.Local {
			t.Fatalf("receipt %+v, %v with a broker that hangs", got, err)
		}
		if err := broker.Resume(); err != nil {
			t.Fatal(err)
		}
		if err := mirror.Wait(ctx, receipt.Position); err != nil {
			t.Fatal(err)
		}
		if again, err := store.Append(ctx, r); err != nil || again.Reached != eventstore.Kafka || !again.Duplicate {
			t.Fatalf("the same request waits again: %+v, %v", again, err)
		}
		if got, _, err := store.Receipt(ctx, "", r.ID); err != nil || got.Reached != eventstore.Kafka {
			t.Fatalf("receipt %+v, %v", got, err)
		}

		// The broker is down: nothing is appended.
		broker.Kill()
		eventually(t, "the mirror notices", func() bool { return mirror.Status().State != kafkalog.StateMirroring })
		before := head(t, s).Seq
		if _, err := store.Append(ctx, inTopic(1)); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatalf("with the broker down: %v", err)
		}
		if local, err := store.Append(ctx, request(1)); err != nil || local.Reached != eventstore.Local {
			t.Fatalf("local with the broker down: %+v, %v", local, err)
		}
		if after := head(t, s).Seq; after != before+1 {
			t.Fatalf("log went from %d to %d", before, after)
		}
	})
}

// A conflict is a conflict, whatever durability was asked for.
func TestDurabilityOfRefusedAppends(t *testing.T) {
	s := newStore(t)
	m := runMirror(t, s, fast(openEmbedded(t)))
	store := withMirror(s, m.Mirror)
	if err := m.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := inTopic(1)
	r.Appends[0].Expect = eventstore.Exactly(7)
	if receipt, err := store.Append(context.Background(), r); !errors.Is(err, eventstore.ErrConflict) || !receipt.Position.IsZero() {
		t.Fatalf("%+v, %v", receipt, err)
	}
	r = request(1)
	r.Durability = eventstore.Peer
	if _, err := store.Append(context.Background(), r); !errors.Is(err, eventstore.ErrUnsupported) {
		t.Fatal(err)
	}
}

// What is enqueued with durability Kafka is answered when it is here, with what waits for the topic; what asks for less, or
// is refused, waits for nothing.
func TestDurabilityOfEnqueuedAppends(t *testing.T) {
	s := newStore(t)
	m := runMirror(t, s, fast(openEmbedded(t)))
	store := withMirror(s, m.Mirror)
	if err := m.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	refused := inTopic(1)
	refused.Appends[0].Expect = eventstore.Exactly(7)
	requests := []eventstore.Request{request(1), inTopic(1), inTopic(2), refused, request(1)}
	answers := make(chan eventstore.Answer, len(requests))
	got := map[int]chan eventstore.Answer{}
	for i := range requests {
		got[i] = make(chan eventstore.Answer, 1)
	}
	store.Enqueue(context.Background(), requests, func(i int, a eventstore.Answer) {
		got[i] <- a
		answers <- a
	})
	for range requests {
		<-answers
	}
	for i, waits := range []bool{false, true, true, false, false} {
		a := <-got[i]
		if (a.Wait != nil) != waits || errors.Is(a.Err, eventstore.ErrConflict) != (i == 3) {
			t.Fatalf("request %d: %+v", i, a)
		}
		if !waits {
			continue
		}
		if receipt, err := a.Wait(context.Background()); err != nil || receipt.Reached != eventstore.Kafka || receipt.Position != a.Receipt.Position {
			t.Errorf("request %d: %+v, %v", i, receipt, err)
		}
	}
}

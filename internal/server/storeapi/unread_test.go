package storeapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// A stream that nobody reads holds little of the server's memory, however much its client asks for at once.
func TestUnreadStreamsHoldLittle(t *testing.T) {
	const streams, kib = 100, 1 << 10
	dir := filepath.Join(t.TempDir(), "store")
	open := func() *pebblestore.Store {
		s, err := pebblestore.Open(dir, &pebblestore.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	store := open()
	for i := range 120 {
		r := eventstore.Request{ID: fmt.Sprint(i), Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("thing", "1")}}}
		for range 100 {
			r.Appends[0].Events = append(r.Appends[0].Events, eventstore.Event{Type: "thing.happened.v1", Payload: make([]byte, 1000)})
		}
		if _, err := store.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil { // what is read then is on disk
		t.Fatal(err)
	}
	rig := startWith(t, open())
	// What the client takes of its own accord would be counted too: its windows are as small as they get.
	conn, err := grpc.NewClient(rig.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	client := storev1.NewEventStoreClient(conn)
	for name, tt := range map[string]struct {
		most int64 // KiB for each
		call func(ctx context.Context) error
	}{
		"subscribe": {512, func(ctx context.Context) error {
			_, err := client.Subscribe(ctx, &storev1.SubscribeRequest{Frames: true, MaxEvents: 10_000})
			return err
		}},
		"subscribe by default": {512, func(ctx context.Context) error {
			_, err := client.Subscribe(ctx, &storev1.SubscribeRequest{})
			return err
		}},
		"read all": {1024, func(ctx context.Context) error {
			_, err := client.ReadAll(ctx, &storev1.ReadAllRequest{})
			return err
		}},
		"read all in frames": {1024, func(ctx context.Context) error {
			_, err := client.ReadAll(ctx, &storev1.ReadAllRequest{Frames: true})
			return err
		}},
		"read all backwards": {1024, func(ctx context.Context) error {
			_, err := client.ReadAll(ctx, &storev1.ReadAllRequest{Backwards: true})
			return err
		}},
		"read stream": {1024, func(ctx context.Context) error {
			_, err := client.ReadStream(ctx, &storev1.ReadStreamRequest{Category: "thing", Id: "1"})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			before := settledHeap() // the streams of the test before are gone
			for range streams {
				if err := tt.call(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if each := (settledHeap() - before) / streams / kib; each > tt.most {
				t.Errorf("%d unread streams hold %d KiB each, want at most %d", streams, each, tt.most)
			} else {
				t.Logf("%d KiB for each of %d streams", each, streams)
			}
		})
	}
}

// A session that rests keeps nothing of its last message.
func TestRestingSessionsKeepNothing(t *testing.T) {
	r := start(t)
	const sessions, size = 20, 3 << 20
	a := request(to("1", 1))
	a.Appends[0].Category = "order" // is kept, so that the store has nothing of it
	a.Appends[0].Events[0] = &storev1.NewEvent{Type: "thing.happened.v1", Payload: make([]byte, size)}
	before := settledHeap()
	for range sessions {
		s := open(t, r)
		if err := s.Send(&storev1.AppendSessionRequest{Appends: []*storev1.SessionAppend{{Number: 1, Request: a}}}); err != nil {
			t.Fatal(err)
		}
		if f := answers(t, s, 1)[1].GetFailure(); f.GetReason() != "kept" {
			t.Fatalf("%v", f)
		}
	}
	if held := settledHeap() - before; held > sessions*size/4 {
		t.Errorf("%d sessions that rest hold %d MiB", sessions, held>>20)
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// settledHeap returns what is in use once it stays about the same.
func settledHeap() int64 {
	last, same := heap(), 0
	for end := time.Now().Add(5 * time.Second); same < 5 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		now := heap()
		if same++; now > last+1<<20 || now < last-1<<20 {
			same = 0
		}
		last = now
	}
	return last
}

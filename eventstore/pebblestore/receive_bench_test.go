package pebblestore

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// BenchmarkReceive receives another log's events of 512 bytes, each a batch of its own with a request's id, 1,000 in a call, one
// call after the other: with no writes here, and among such, into streams that both write.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name    string
		streams int
		writes  bool
	}{{"new streams", 1 << 30, false}, {"10,000 streams", 10_000, false}, {"10,000 streams among writes", 10_000, true}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "store"), &Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			const perCall = 1000
			payload := make([]byte, 512)
			next := func(first uint64) []eventstore.Recorded {
				events := make([]eventstore.Recorded, perCall)
				now := hlc.At(time.Now().Add(-20 * time.Millisecond))
				for i := range events {
					e := &events[i]
					seq := first + uint64(i)
					e.Dot = eventstore.Dot{Log: eventstore.LogID{Site: "far", Incarnation: 1}, Seq: seq}
					e.Batch = eventstore.Batch{FirstSeq: seq, Count: 1}
					e.HLC, e.Version = now+hlc.Timestamp(i), seq
					e.Stream = eventstore.Stream("order", fmt.Sprint(seq*7919%uint64(c.streams)))
					e.Event = eventstore.Event{ID: uuid.UUID{15: 1}, Type: "order.changed.v1", Kind: eventstore.KindDomain, Encoding: eventstore.Protobuf, SchemaVersion: 1, Payload: payload}
					e.CommandID = fmt.Sprint("far", seq)
				}
				return events
			}
			stop := make(chan struct{})
			var writers sync.WaitGroup
			if c.writes {
				for range 4 {
					writers.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
							}
							r := eventstore.Request{Appends: []eventstore.StreamAppend{{
								Stream: eventstore.Stream("order", fmt.Sprint(rand.IntN(c.streams))),
								Events: []eventstore.Event{{Type: "order.changed.v1", Payload: payload}},
							}}}
							if _, err := s.Append(b.Context(), r); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
			}
			b.ResetTimer()
			began := time.Now()
			fetched := make(chan []eventstore.Recorded, 2)
			go func() {
				defer close(fetched)
				for first := uint64(1); first <= uint64(b.N); first += perCall {
					fetched <- next(first)
				}
			}()
			for events := range fetched {
				if _, err := s.Receive(b.Context(), events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((b.N+perCall-1)/perCall*perCall)/time.Since(began).Seconds(), "events/s")
			b.StopTimer()
			close(stop)
			writers.Wait()
		})
	}
}

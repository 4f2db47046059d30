package node_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tributary-es/tributary/node"
)

// BenchmarkOrderOverHTTP reads orders from Redis over HTTP, 64 clients at once over kept connections, against an embedded
// node in this process. The clients run on the same cores.
func BenchmarkOrderOverHTTP(b *testing.B) {
	const clients, orders = 64, 200
	base := startNode(b)
	var last string
	for i := range orders {
		last = post(b, base+"/v1/orders", fmt.Sprintf(`{"id":"o-%d","country":"France","lines":[{"stock_code":"A","quantity":1,"unit_price":"1.25"},{"stock_code":"B","quantity":2,"unit_price":"0.125"}]}`, i))
	}
	get(b, http.DefaultClient, base+"/v1/orders/o-0", last)

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	all := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
	var mu sync.Mutex // guards all
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			h := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				begin := time.Now()
				get(b, client, fmt.Sprintf("%s/v1/orders/o-%d", base, n%orders), "")
				if err := h.RecordValue(max(1, time.Since(begin).Microseconds())); err != nil {
					b.Error(err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric(float64(all.ValueAtQuantile(50))/1000, "p50-ms")
	b.ReportMetric(float64(all.ValueAtQuantile(99))/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// startNode runs an embedded node without ClickHouse for as long as the benchmark, and returns its address.
func startNode(b *testing.B) string {
	b.Helper()
	n, err := node.Open(b.Context(), node.Config{
		Data: b.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: node.Off, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := n.Close(); err != nil {
			b.Error(err)
		}
	})
	return "http://" + n.HTTPAddr()
}

// post returns the position of the receipt.
func post(b *testing.B, url, body string) string {
	b.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b.Fatalf("POST %s: %s", url, resp.Status)
	}
	return resp.Header.Get("X-Position")
}

func get(b *testing.B, client *http.Client, url, readAfter string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		b.Error(err)
		return
	}
	if readAfter != "" {
		req.Header.Set("X-Read-After", readAfter)
	}
	resp, err := client.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		b.Errorf("GET %s: %s, %v", url, resp.Status, err)
	}
}

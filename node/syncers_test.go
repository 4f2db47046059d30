package node_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/node"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/kafkasync"
	"github.com/tributary-es/tributary/replication/restsync"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// A domain's syncers bring over what other programs do as commands, each once, through restarts of the node; one that fails is named by
// health, status and metrics, and is exchanged while the node runs.
func TestDomainsBringOverFromElsewhere(t *testing.T) {
	broker, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	users, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.DefaultProduceTopic("users"))
	if err != nil {
		t.Fatal(err)
	}
	defer users.Close()
	creation, topic := kmsg.NewCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "users", 2, 1
	creation.Topics = append(creation.Topics, topic)
	if _, err := creation.RequestWith(t.Context(), users); err != nil {
		t.Fatal(err)
	}
	write := func(n int) {
		t.Helper()
		for range n {
			if err := users.ProduceSync(t.Context(), &kgo.Record{Key: []byte("ann"), Value: []byte("changed")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var away atomic.Bool
	var since atomic.Int64
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(w, "closed for today", http.StatusServiceUnavailable)
			return
		}
		from, err := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
		if err != nil {
			t.Error(err)
		}
		since.Store(from)
		changes := `{"key": "bob", "at": 1772600767891000000, "data": {}}`
		if from > 1772600767891000000 {
			changes = ""
		}
		fmt.Fprintf(w, `{"changes": [%s], "next": ""}`, changes)
	}))
	defer old.Close()

	var parts *node.Parts
	var none atomic.Bool
	d := picky(&none)
	fromKafka := func(p *node.Parts) (replication.Syncer, error) {
		return kafkasync.New(kafkasync.Options{Brokers: []string{broker.Addr()}, Topic: "users", Apply: func(ctx context.Context, records []kafkasync.Record) error {
			for _, r := range records {
				// As docs/syncers.md has it.
				id := "user-sync/" + r.ID
				_, err := p.Bus.Dispatch(ctx, commands.Meta{ID: id, Hash: sha256.Sum256([]byte(id))}, count{string(r.Key)})
				var refused *commands.Rejection
				if errors.As(err, &refused) {
					p.Logger.Warn("a user is left as it is", "partition", r.Partition, "offset", r.Offset, "error", err)
				} else if err != nil {
					return err
				}
			}
			return nil
		}})
	}
	d.Syncers = func(p *node.Parts) (map[string]replication.Syncer, error) {
		parts = p
		if sites := p.Sites(); len(sites) != 1 || sites[0] != "local" {
			t.Errorf("while the node is opened the sites are %q", sites)
		}
		kafka, err := fromKafka(p)
		if err != nil {
			return nil, err
		}
		rest, err := restsync.New(restsync.Options{URL: old.URL, Apply: func(ctx context.Context, changes []restsync.Change) error {
			for _, c := range changes {
				if _, err := p.Bus.Dispatch(ctx, commands.Meta{ID: c.ID}, count{c.Key}); err != nil {
					return err
				}
			}
			return nil
		}})
		return map[string]replication.Syncer{"user-sync": kafka, "order-sync": rest}, err
	}
	data := t.TempDir()
	start := func() (status func() map[string]*apiv1.SyncerStatus, get func(path string) string, stop func()) {
		t.Helper()
		n, err := node.Open(t.Context(), node.Config{
			Data: data, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: node.Off, Kafka: node.Off, Logger: slog.New(slog.DiscardHandler), Domains: []node.Domain{d},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		status = func() map[string]*apiv1.SyncerStatus {
			t.Helper()
			s, err := apiv1.NewAdminServiceClient(conn).GetStatus(t.Context(), &apiv1.GetStatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]*apiv1.SyncerStatus{}
			for _, s := range s.GetSyncers() {
				all[s.GetName()] = s
			}
			return all
		}
		get = func(path string) string {
			t.Helper()
			resp, err := http.Get("http://" + n.HTTPAddr() + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		return status, get, func() {
			cancel()
			if err := errors.Join(<-ended, conn.Close(), n.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	counted := func(name string, want uint64) error {
		versions := uint64(0)
		for _, err := range parts.Log.Read(t.Context(), eventstore.Stream("count", name), 1) {
			if err != nil {
				return err
			}
			versions++
		}
		if versions != want {
			return fmt.Errorf("%s was counted %d times, want %d", name, versions, want)
		}
		return nil
	}
	healthy := func(status func() map[string]*apiv1.SyncerStatus, name string, want bool) func() error {
		return func() error {
			if s := status()[name]; s.GetHealthy() != want {
				return fmt.Errorf("%s is %v", name, s)
			}
			return nil
		}
	}

	write(3)
	status, get, stop := start()
	await(t, "what was there", func() error { return errors.Join(counted("ann", 3), counted("bob", 1)) })
	write(2)
	await(t, "what came", func() error { return counted("ann", 5) })
	await(t, "user-sync is healthy", healthy(status, "user-sync", true))
	await(t, "order-sync is healthy", healthy(status, "order-sync", true))
	away.Store(true)
	await(t, "order-sync fails", healthy(status, "order-sync", false))
	if h := get("/v1/health"); !strings.Contains(h, "syncer order-sync") || !strings.Contains(h, "closed for today") || strings.Contains(h, "syncer user-sync") {
		t.Errorf("health says %s", h)
	}
	if m := get("/metrics"); !strings.Contains(m, `tributary_syncer_healthy{syncer="order-sync"} 0`) || !strings.Contains(m, `tributary_syncer_healthy{syncer="user-sync"} 1`) {
		t.Error("metrics do not say which syncer fails")
	}
	if s := status()["order-sync"]; s.GetFailures() == 0 || s.GetLastError() == "" || s.GetFrom() == nil {
		t.Errorf("status says %v", s)
	}
	other, err := fromKafka(parts)
	if err != nil {
		t.Fatal(err)
	}
	if err := parts.Syncers.Swap(t.Context(), "order-sync", other); err != nil {
		t.Errorf("exchange a syncer that fails: %v", err)
	}
	await(t, "the one in its place is healthy", healthy(status, "order-sync", true))
	stop()

	away.Store(false)
	write(2)
	since.Store(-1)
	_, get, stop = start()
	await(t, "what came while the node was down", func() error { return errors.Join(counted("ann", 7), counted("bob", 1)) })
	await(t, "the other program is asked", func() error {
		if since.Load() < 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if from := since.Load(); from < 1772600767891000000 {
		t.Errorf("after a restart the other program is asked for changes from %d on", from)
	}
	if !json.Valid([]byte(get("/v1/status"))) {
		t.Error("the status is no JSON")
	}
	stop()
}

package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	"github.com/tributary-es/tributary/projections"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

type (
	count   struct{ Name string }
	counted struct{}
)

// picky is a domain whose projection cannot apply events while broken is set.
func picky(broken *atomic.Bool) node.Domain {
	codec := commands.JSONCodec(map[string]counted{"count.counted.v1": {}})
	return node.Domain{
		Name: "picky",
		Register: func(b *commands.Bus) error {
			return commands.Register[int, count, counted](b, commands.Aggregate[int, count, counted]{
				Category: "count", ID: func(c count) string { return c.Name }, Codec: codec,
				Decide: func(int, count) ([]counted, error) { return []counted{{}}, nil },
				Evolve: func(n int, _ counted) int { return n + 1 },
			}, count{})
		},
		Keys: &projections.Projection[projections.Keys]{
			Name: "picky", Version: 1, Types: codec.Types(),
			Apply: func(w projections.Keys, e *eventstore.Recorded) error {
				if broken.Load() {
					return errors.New("the projection is broken")
				}
				w.HashAdd("counts", e.Stream.ID, 1)
				return nil
			},
		},
		Commands: map[string]any{"POST /v1/counts/{name}": count{}},
	}
}

// An operator sees what is parked with its reason, has it applied once the fault is mended, or leaves it out for good.
func TestParkedEventsAreSeenTo(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	n, err := node.Open(t.Context(), node.Config{
		Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: node.Off, Kafka: node.Off,
		Logger: slog.New(slog.DiscardHandler), Domains: []node.Domain{picky(&broken)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	admin := apiv1.NewAdminServiceClient(conn)

	base := "http://" + n.HTTPAddr()
	for _, name := range []string{"a", "a", "b"} {
		resp, err := http.Post(base+"/v1/counts/"+name, "application/json", strings.NewReader("{}"))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("count %s: %v, %v", name, resp, err)
		}
		resp.Body.Close()
	}
	await(t, "3 parked events", func() error { return parkedIs(t, admin, 3) })
	verified := func(parked int) {
		t.Helper()
		r, err := n.Verify(t.Context(), []string{"redis"}, func(string, uint64, uint64) {})
		if err != nil || len(r.Faults) != parked {
			t.Errorf("verify with %d parked events: %q, %v", parked, r.Faults, err)
		}
		for _, f := range r.Faults {
			if !strings.Contains(f, "parked by picky: count.counted.v1 at ") {
				t.Errorf("verify says %q of what is parked", f)
			}
		}
	}
	verified(3)
	list, err := admin.ListParked(t.Context(), &apiv1.ListParkedRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := list.GetEvents()[0], list.GetEvents()[1], list.GetEvents()[2]
	if first.GetStream() != "default/count/a" || first.GetReason() != "the projection is broken" || first.GetProjection() != "picky-redis" {
		t.Errorf("first parked event: %v", first)
	}
	if second.GetStream() != "default/count/a" || second.GetReason() != "" {
		t.Errorf("second parked event: %v; want one that waits without a reason", second)
	}

	if got, err := admin.RetryParked(t.Context(), &apiv1.RetryParkedRequest{Name: "picky-redis"}); err != nil || got.GetApplied() != 0 {
		t.Errorf("retry while it is broken: %v, %v; want 0 applied", got, err)
	}
	broken.Store(false)
	if _, err := admin.SkipParked(t.Context(), &apiv1.SkipParkedRequest{Name: "picky-redis", Position: first.GetPosition()}); err != nil {
		t.Fatal(err)
	}
	await(t, "b alone parked", func() error { return parkedIs(t, admin, 1) })
	got, err := admin.RetryParked(t.Context(), &apiv1.RetryParkedRequest{Name: "picky-redis", Stream: third.GetStream()})
	if err != nil || got.GetApplied() != 1 {
		t.Errorf("retry of b: %v, %v; want 1 applied", got, err)
	}
	await(t, "nothing parked", func() error { return parkedIs(t, admin, 0) })
	verified(0)

	for what, c := range map[string]struct {
		call func() error
		want codes.Code
	}{
		"an unknown projection": {func() error {
			_, err := admin.RetryParked(t.Context(), &apiv1.RetryParkedRequest{Name: "nobody"})
			return err
		}, codes.NotFound},
		"a stream that is none": {func() error {
			_, err := admin.RetryParked(t.Context(), &apiv1.RetryParkedRequest{Name: "picky-redis", Stream: "a"})
			return err
		}, codes.InvalidArgument},
		"an instance of a projection": {func() error {
			_, err := admin.RetryParked(t.Context(), &apiv1.RetryParkedRequest{Name: "picky-redis", Instance: "a"})
			return err
		}, codes.InvalidArgument},
		"a position that is none": {func() error {
			_, err := admin.SkipParked(t.Context(), &apiv1.SkipParkedRequest{Name: "picky-redis", Position: "x"})
			return err
		}, codes.InvalidArgument},
		"an event that is not parked": {func() error {
			_, err := admin.SkipParked(t.Context(), &apiv1.SkipParkedRequest{Name: "picky-redis", Position: third.GetPosition()})
			return err
		}, codes.NotFound},
	} {
		if err := c.call(); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

// await tries until a condition holds, and gives up after long.
func await(t *testing.T, what string, holds func() error) {
	t.Helper()
	const long = 30 * time.Second
	var err error
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, long, err)
}

func parkedIs(t *testing.T, admin apiv1.AdminServiceClient, want int) error {
	list, err := admin.ListParked(t.Context(), &apiv1.ListParkedRequest{})
	if err == nil && len(list.GetEvents()) != want {
		err = fmt.Errorf("%d events are parked: %v", len(list.GetEvents()), list)
	}
	return err
}

func TestQueriesNeedAModel(t *testing.T) {
	d := node.Domain{Name: "lost", Queries: map[string]node.Query{"GET /v1/lost": nil}}
	_, err := node.Open(t.Context(), node.Config{
		Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: node.Off, Kafka: node.Off,
		Logger: slog.New(slog.DiscardHandler), Domains: []node.Domain{d},
	})
	if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "lost has queries") {
		t.Errorf("Open: %v, want ErrInvalid that names the domain", err)
	}
}

// An instance of a saga that is tried again is said to go on only if it is not parked again.
func TestParkedInstancesAreSeenTo(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	d := picky(new(atomic.Bool))
	d.Sagas = []node.Saga{node.RunSaga(saga.Definition[int]{
		Name: "counting", Triggers: []string{"count.counted.v1"},
		Instance: func(e *eventstore.Recorded) string { return e.Stream.ID },
		React: func(n int, _ saga.Input) (int, []saga.Action, error) {
			if broken.Load() {
				return n, nil, errors.New("the saga is broken")
			}
			return n, []saga.Action{saga.Complete{Outcome: "counted"}}, nil
		},
	})}
	base, _ := shopServer(t, t.TempDir(), d)
	for _, name := range []string{"a", "b"} {
		if a := call(t, "POST", base+"/v1/counts/"+name, "{}"); a.Status != http.StatusOK {
			t.Fatalf("count %s: %+v", name, a)
		}
	}
	parked := func(want int) {
		t.Helper()
		await(t, fmt.Sprintf("%d parked instances", want), func() error {
			list, _ := getObject(t, base+"/v1/parked")["instances"].([]any)
			if len(list) != want {
				return fmt.Errorf("parked are %v", list)
			}
			return nil
		})
	}
	retry := func(which, want string) {
		t.Helper()
		resp, err := http.Post(base+"/v1/parked/counting/retry"+which, "", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("retry%s: HTTP %d, %s, %v; want %s", which, resp.StatusCode, text, err, want)
		}
	}
	parked(2)
	retry("", `"applied":"0"`)
	retry("?instance=a", `"applied":"0"`)
	parked(2)
	broken.Store(false)
	retry("?instance=a", `"applied":"1"`)
	parked(1)
	retry("", `"applied":"1"`)
	parked(0)
}

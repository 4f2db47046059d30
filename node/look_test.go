package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// ownFiles returns what the node's own files in a folder are, by their names: those of the databases change whenever they are opened.
func ownFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*", "keys/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				continue
			}
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			out[path] = string(body)
		}
	}
	return out
}

// A node that is to show what a folder holds answers questions, refuses all else whatever it is about, and leaves the folder's files
// as they are.
func TestLookAnswersQuestionsAlone(t *testing.T) {
	config := Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Kafka: Off, ClickHouse: Off, Logger: slog.New(slog.DiscardHandler)}
	n, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	before := ownFiles(t, config.Data)
	config.Look = true
	if n, err = Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	admin := apiv1.NewAdminServiceClient(conn)
	if _, err := admin.GetStatus(ctx, &apiv1.GetStatusRequest{}); err != nil {
		t.Errorf("a question: %v", err)
	}
	if _, err := storev1.NewConsumerGroupsClient(conn).ListGroups(ctx, &storev1.ListGroupsRequest{}); err != nil {
		t.Errorf("another: %v", err)
	}
	for what, do := range map[string]func() error{
		"readonly": func() error {
			_, err := sitesv1.NewMembersClient(conn).SetReadOnly(ctx, &sitesv1.SetReadOnlyRequest{Reason: "x"})
			return err
		},
		"append": func() error {
			_, err := storev1.NewEventStoreClient(conn).Append(ctx, &storev1.AppendRequest{RequestId: "k-1"})
			return err
		},
		"scrub": func() error {
			stream, err := admin.Scrub(ctx, &apiv1.ScrubRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"rebuild": func() error {
			stream, err := admin.RebuildProjection(ctx, &apiv1.RebuildProjectionRequest{Name: "shop-redis"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		if err := do(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "tributary serve --data") {
			t.Errorf("%s: %v, want it refused with what to do", what, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if after := ownFiles(t, config.Data); !maps.Equal(before, after) {
		t.Errorf("the folder's own files were %q and are %q", before, after)
	}
}

// A folder without a log is refused and left as it is: there is nothing to be seen, and a log that is made there would hide that one is gone.
func TestLookMakesNoLog(t *testing.T) {
	for _, made := range []string{"", "store", "store/log"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, made), 0o755); err != nil {
			t.Fatal(err)
		}
		if n, err := Open(t.Context(), Config{Data: dir, Look: true, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("with %q: %v, %v", made, n, err)
		}
		if inside, err := filepath.Glob(filepath.Join(dir, made, "*")); err != nil || made != "store" && len(inside) > 0 {
			t.Errorf("with %q there is %v afterwards, %v", made, inside, err)
		}
	}
}

// A folder that was used and has lost its log, for its disk is not mounted, is not given a new one: that would give positions a second time.
func TestLostLogIsNotBegunAnew(t *testing.T) {
	config := Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Kafka: Off, ClickHouse: Off, Logger: slog.New(slog.DiscardHandler)}
	n, err := Open(t.Context(), config)
	if err == nil {
		err = n.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(config.Data, storeFolder)
	if err := os.Rename(store, filepath.Join(t.TempDir(), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	for _, made := range []bool{false, true} {
		if made {
			if err := os.Mkdir(store, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := Open(t.Context(), config); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "its log is gone") {
			t.Errorf("with an empty folder %v: %v, %v", made, n, err)
		}
	}
	if err := os.Remove(filepath.Join(config.Data, configFile)); err != nil {
		t.Fatal(err)
	}
	if n, err = Open(t.Context(), config); err != nil {
		t.Fatalf("begun anew: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// Who starts a server on a folder that somebody looks at waits until he is done, and need not start it again.
func TestStartBesideALook(t *testing.T) {
	config := Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Kafka: Off, ClickHouse: Off, Logger: slog.New(slog.DiscardHandler)}
	open := func(look bool) *Node {
		t.Helper()
		c := config
		c.Look = look
		n, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := open(false).Close(); err != nil {
		t.Fatal(err)
	}
	looks := open(true)
	closed := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() { closed <- looks.Close() })
	if err := errors.Join(open(false).Close(), <-closed); err != nil {
		t.Error(err)
	}
}

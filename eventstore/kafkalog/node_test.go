package kafkalog_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// nodeFolder, when set, makes this program a store on disk with its mirror and the embedded broker, under load, all in one
// process as in the first minute.
const nodeFolder = "KAFKALOG_TEST_NODE"

// smallNode is what such a process holds.
type smallNode struct {
	store  *pebblestore.Store
	broker *embedded.Broker
	mirror *kafkalog.Mirror
}

func openNode(dir string) (n smallNode, err error) {
	silent := slog.New(slog.DiscardHandler)
	if n.store, err = pebblestore.Open(filepath.Join(dir, "store"), &pebblestore.Options{Logger: silent}); err != nil {
		return n, err
	}
	if n.broker, err = embedded.Open(filepath.Join(dir, "kafka"), embedded.Options{SegmentBytes: 256 << 10}); err != nil {
		_ = n.store.Close()
		return n, err
	}
	o := fast(n.broker.Addr())
	o.Checkpoint = kafkalog.FileCheckpoint(filepath.Join(dir, "mirror.json"))
	n.mirror = kafkalog.NewMirror(n.store, o)
	return n, nil
}

func (n *smallNode) close() {
	_ = n.broker.Close()
	_ = n.store.Close()
}

func serveNode(dir string) int {
	n, err := openNode(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer n.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		if err := n.mirror.Run(ctx); err != nil {
			fmt.Println("mirror:", err)
		}
	}()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	fmt.Println("ready")
	for ctx.Err() == nil {
		if _, err := n.store.Append(ctx, request(1+rand.IntN(8))); err != nil && ctx.Err() == nil {
			fmt.Println("append:", err)
			return 1
		}
	}
	return 0
}

func TestEverythingKilledTogether(t *testing.T) {
	dir := t.TempDir()
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), nodeFolder+"="+dir)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "ready" {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("node says %q", lines.Text())
		}
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond) // killed at any moment of its work
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			t.Errorf("node says %q", lines.Text())
		}
		_ = cmd.Wait() // "signal: killed"
		in.Close()
	}

	n, err := openNode(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	m := runMirror(t, n.store, kafkalog.Options{Brokers: []string{n.broker.Addr()}})
	waitFor(t, m.Mirror, n.store)
	m.stop()
	state := head(t, n.store)
	if state.Seq < 100 {
		t.Fatalf("only %d events were appended", state.Seq)
	}
	sameAsStore(t, n.broker.Addr(), n.store)
	if r := audit(t, n.broker.Addr(), n.store, ""); !r.OK() || r.Records != state.Seq || r.Fences < 2 {
		t.Fatalf("report %+v of %d events", r, state.Seq)
	}
	got := readTo(t, subscribe(t, newReader(t, n.broker.Addr(), topicOf(t, n.store)), eventstore.Position{}, eventstore.Filter{}), eventstore.Position{}, state.Durable)
	sameEvents(t, stored(t, n.store, eventstore.Position{}, eventstore.Filter{}), got)
}

package kafkalog

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// TestRecoverFromADeadBroker recovers from a broker that refuses connections and from one that takes them and says nothing: it
// says while it tries, and names the broker when patience is over.
func TestRecoverFromADeadBroker(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hung, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	for name, addr := range map[string]string{"refuses": dead.Addr().String(), "hangs": hung.Addr().String()} {
		var said bytes.Buffer
		_, err := Recover(t.Context(), eventstore.LogID{Site: "s"}, Options{
			Brokers: []string{addr}, RequestTimeout: 200 * time.Millisecond, Patience: 700 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&said, nil)),
		})
		if !errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), addr) {
			t.Errorf("a broker that %s: %v, want ErrUnavailable with its address", name, err)
		}
		if !strings.Contains(said.String(), "no broker has answered yet") || !strings.Contains(said.String(), addr) {
			t.Errorf("a broker that %s: it was said %q", name, said.String())
		}
	}
}

package kafkalog

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// lines is a log that is written while it is read.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

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
		said := make(lines, 100)
		_, err := Recover(t.Context(), eventstore.LogID{Site: "s"}, Options{
			Brokers: []string{addr}, RequestTimeout: 200 * time.Millisecond, Patience: 700 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(said, nil)),
		})
		if !errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), addr) {
			t.Errorf("a broker that %s: %v, want ErrUnavailable with its address", name, err)
		}
		var all strings.Builder
		for range len(said) {
			all.WriteString(<-said)
		}
		if text := all.String(); !strings.Contains(text, "no broker has answered yet") || !strings.Contains(text, addr) {
			t.Errorf("a broker that %s: it was said %q", name, text)
		}
	}
}

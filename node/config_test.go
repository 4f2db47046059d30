package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// A folder that was used with other sites keeps the addresses by which they find it, also while it is used without them; one that
// never was keeps none.
func TestAddressesAreKept(t *testing.T) {
	for _, peers := range [][]Peer{{{"sh", "127.0.0.1:9190", "127.0.0.1:9192"}}, nil} {
		dir := t.TempDir()
		uses := func(c Config) Config {
			t.Helper()
			c.Data, c.Site = dir, "bj"
			if err := c.complete(); err != nil {
				t.Fatal(err)
			}
			if err := c.save(); err != nil {
				t.Fatal(err)
			}
			return c
		}
		uses(Config{HTTP: "127.0.0.1:8280", GRPC: "127.0.0.1:9290", KafkaPort: 9292, Peers: peers})
		uses(Config{Peers: []Peer{}}) // --peer off
		want := [2]string{"127.0.0.1:8280", "127.0.0.1:9290"}
		if peers == nil {
			want = [2]string{"127.0.0.1:8080", "127.0.0.1:9090"}
		}
		if c := uses(Config{}); c.HTTP != want[0] || c.GRPC != want[1] || len(c.Peers) > 0 {
			t.Errorf("with %v before, it listens on %s and %s, and has %v", peers, c.HTTP, c.GRPC, c.Peers)
		}
	}
}

// The durability of what names none is kept for the next time, and refused where it cannot be had; a command that opens the folder for
// a moment without what it needs does without it.
func TestDurabilityIsKept(t *testing.T) {
	dir := t.TempDir()
	uses := func(c Config, want string) {
		t.Helper()
		c.Data = dir
		if err := c.complete(); err != nil || c.Durability != want {
			t.Errorf("%+v: durability %q (%v), want %q", c, c.Durability, err, want)
		}
		if c.Remember {
			if err := c.save(); err != nil {
				t.Fatal(err)
			}
		}
	}
	refused := func(c Config, says string) {
		t.Helper()
		c.Data = dir
		if err := c.complete(); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("durability %q: %v; want it refused, with %q", c.Durability, err, says)
		}
	}
	uses(Config{Remember: true}, "local")
	refused(Config{Durability: "Kafka", Remember: true}, "use local, kafka or peer")
	refused(Config{Durability: "kafka", Kafka: Off, Remember: true}, "needs Kafka")
	refused(Config{Durability: "peer", Remember: true}, "--peer")
	uses(Config{Durability: "kafka", Remember: true}, "kafka")
	uses(Config{}, "kafka")
	refused(Config{Kafka: Off, Remember: true}, "--durability local")
	uses(Config{Kafka: Off}, "local")
	uses(Config{Durability: "peer", Peers: []Peer{{"sh", "127.0.0.1:9190", "127.0.0.1:9192"}}, Remember: true}, "peer")
	uses(Config{}, "peer")
	refused(Config{Peers: []Peer{}, Remember: true}, "needs another site")
	uses(Config{Durability: "local", Remember: true}, "local")
	uses(Config{}, "local")
}

// A site that others know by its name has one: it is not called local for want of it, which its folder would keep for good.
func TestSiteOfOthersIsNamed(t *testing.T) {
	peers := []Peer{{"sh", "127.0.0.1:9190", "127.0.0.1:9192"}}
	for _, c := range []Config{{Peers: peers}, {Join: "127.0.0.1:9190"}} {
		c.Data = t.TempDir()
		if err := c.complete(); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "--site") {
			t.Errorf("%+v: %v, want it to ask for the name", c, err)
		}
	}
	dir := t.TempDir() // of a site that was called local before it had others
	for _, c := range []Config{{}, {Peers: peers}} {
		c.Data = dir
		if err := errors.Join(c.complete(), c.save()); err != nil || c.Site != "local" {
			t.Errorf("site %q, %v", c.Site, err)
		}
	}
}

package node

import "testing"

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

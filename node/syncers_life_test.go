package node

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// How far a syncer has come in one life of the log is nothing to go by in the next: what it has brought over may be lost.
func TestProgressOfSyncersIsOfOneLife(t *testing.T) {
	file := replication.NewProgressFile(filepath.Join(t.TempDir(), syncersFile))
	first, second := lifeProgress{file, 1}, lifeProgress{file, 2}
	if err := errors.Join(first.Save("user-sync", 5), second.Save("order-sync", 6)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    lifeProgress
		name string
		want int64
	}{{first, "user-sync", 5}, {second, "user-sync", 0}, {first, "order-sync", 0}, {second, "order-sync", 6}} {
		if at, err := c.p.Load(c.name); at != c.want || err != nil {
			t.Errorf("in life %d %s is at %d, %v; want %d", c.p.life, c.name, at, err, c.want)
		}
	}
}

// A node that only looks at a folder brings nothing over, and a syncer is not called as a link is.
func TestSyncersOfADomain(t *testing.T) {
	n := &Node{config: Config{Look: true}}
	d := Domain{Name: "none", Register: func(*commands.Bus) error { return nil }}
	d.Syncers = func(*Parts) (map[string]replication.Syncer, error) {
		return map[string]replication.Syncer{"link sh": nil}, nil
	}
	if err := n.addSyncers(d, &Parts{}); err != nil {
		t.Errorf("a node that looks: %v", err)
	}
	n.config.Look = false
	if err := n.addSyncers(d, &Parts{}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a syncer that is called as a link is: %v", err)
	}
}

package node

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// look leaves out all that a node needs only to take part: it shows what a stopped folder holds (Config.Look).
func (c *Config) look() {
	c.HTTP, c.GRPC = "127.0.0.1:0", "127.0.0.1:0"
	c.Peers, c.Join = []Peer{}, ""
	c.Kafka, c.Redis, c.ClickHouse = Off, Embedded, Off
	c.Source, c.Feed, c.Durability = SourceStore, FeedAuto, eventstore.Local.String()
	c.ArchiveTo, c.ArchiveAfter, c.DropAfter = "", 0, 0
	c.Remember = false
}

// errLooks is what a node says that shows what a stopped folder holds, and is asked for more.
func errLooks(data string) error {
	return fmt.Errorf("%w: what is in the folder %s is shown, and nothing recorded: start a server on it first (tributary serve --data %s)", eventstore.ErrReadOnly, data, data)
}

// reading are how the names of methods begin that change nothing.
var reading = []string{"Get", "List", "Read", "Describe", "Count", "Check", "Watch", "Subscribe"}

// refusesMore returns what refuses the methods that do more than show what is there, on a node that is only to show; nil on others.
func (n *Node) refusesMore() func(method string) error {
	if !n.config.Look {
		return nil
	}
	return func(method string) error {
		name := path.Base(method)
		if slices.ContainsFunc(reading, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return nil
		}
		return errLooks(n.config.Data)
	}
}

// show serves what the log holds until ctx ends. Nothing follows the log, nothing is recorded, and no other site hears of it.
func (n *Node) show(ctx context.Context) error {
	defer n.end()
	return n.server.Run(ctx)
}

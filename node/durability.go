package node

import (
	"cmp"

	"github.com/tributary-es/tributary/eventstore"
)

// completeDurability fills in the durability of what names none. One that is remembered, and that cannot be had with what a command
// opens the folder with for a moment, is left out: such a node serves nobody else.
func (c *Config) completeDurability(last *Config) {
	given := c.Durability != ""
	c.Durability = cmp.Or(c.Durability, last.Durability, eventstore.Local.String())
	if !given && !c.Remember && c.lacks() != "" {
		c.Durability = eventstore.Local.String()
	}
}

// lacks says what the durability needs that the node does not have; nothing when it has it.
func (c *Config) lacks() string { return c.lacksFor(c.Durability) }

// lacksFor is lacks for a durability that a command asks for.
func (c *Config) lacksFor(durability string) string {
	switch {
	case durability != eventstore.Local.String() && c.Kafka == Off:
		return "needs Kafka, which is switched off (--kafka)"
	case durability == eventstore.Peer.String() && len(c.Peers) == 0 && c.Join == "":
		return "needs another site (--peer)"
	}
	return ""
}

// validateDurability says what is wrong with the durability of what names none.
func (c *Config) validateDurability(fault func(format string, args ...any)) {
	if _, err := eventstore.ParseDurability(c.Durability); err != nil {
		fault("--durability %s: use local, kafka or peer", c.Durability)
		return
	}
	if why := c.lacks(); why != "" {
		fault("--durability %s %s; give --durability local if that is meant", c.Durability, why)
	}
}

// durability returns the class. REQUIRES: the configuration is complete.
func (c *Config) durability() eventstore.Durability {
	class, err := eventstore.ParseDurability(c.Durability)
	if err != nil {
		panic(err) // INVARIANT: complete has refused it
	}
	return class
}

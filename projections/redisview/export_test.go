package redisview

import "github.com/redis/go-redis/v9"

// AddHook puts a hook on every connection of the client.
func (c *Client) AddHook(h redis.Hook) {
	c.reads.AddHook(h)
	c.writes.AddHook(h)
}

// Raw returns the driver's client.
func (c *Client) Raw() *redis.Client { return c.reads }

// Swept waits until the sweeping under way is done.
func (v *View) Swept() { v.sweeper.owned.Wait() }

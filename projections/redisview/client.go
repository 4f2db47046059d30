package redisview

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/projections"
)

// Client is the connections to one Redis server, for any number of views. It is safe for concurrent use.
type Client struct {
	address string
	// Transactions go through connections of their own, and are never repeated by the driver: a repeated one would
	// count twice.
	reads, writes *redis.Client
	warned        atomic.Bool
}

// Dial returns a client of the server at an address, "host:port" or a URL such as redis://user:password@host:port/0. It
// connects when it is first used, so an error is one of the address alone.
func Dial(address string) (*Client, error) {
	quiet.Do(func() { redis.SetLogger(driverLog{}) })
	o := &redis.Options{Addr: address}
	if strings.Contains(address, "://") {
		var err error
		if o, err = redis.ParseURL(address); err != nil {
			return nil, fmt.Errorf("redis address: %w", err)
		}
	}
	o.Protocol = 2
	o.DisableIdentity = true
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.DialerRetries = 2*time.Second, 1
	o.ReadTimeout, o.WriteTimeout = 3*time.Second, 3*time.Second
	o.MaxRetries = 1
	o.PoolSize = 64
	writes := *o
	writes.MaxRetries = -1
	writes.PoolSize = 16
	writes.ReadTimeout, writes.WriteTimeout = 10*time.Second, 10*time.Second
	writes.ReadBufferSize, writes.WriteBufferSize = 64<<10, 256<<10
	return &Client{address: o.Addr, reads: redis.NewClient(o), writes: redis.NewClient(&writes)}, nil
}

// ValidateURL says what Dial would refuse of a URL. Its errors do not tell passwords.
func ValidateURL(address string) error {
	if _, err := url.Parse(address); err != nil {
		return errors.New("it is not a URL")
	}
	if _, err := redis.ParseURL(address); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "redis: "))
	}
	return nil
}

// Address returns the server's host:port.
func (c *Client) Address() string { return c.address }

// Ping returns nil when the server answers, else an error that matches projections.ErrUnavailable.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.reads.Ping(ctx).Err(); err != nil {
		return c.unavailable("ping", err)
	}
	return nil
}

// warnOfEviction says once that the server may throw away parts of a model when its memory is full, which nothing but a
// comparison would show. A server that does not tell its settings is taken at its word.
func (c *Client) warnOfEviction(ctx context.Context, log *slog.Logger) {
	if c.warned.Load() {
		return
	}
	settings, err := c.reads.ConfigGet(ctx, "maxmemory*").Result()
	if err != nil {
		return
	}
	policy := settings["maxmemory-policy"]
	if limit := settings["maxmemory"]; limit != "" && limit != "0" && policy != "noeviction" && !c.warned.Swap(true) {
		log.Warn("redis may evict parts of a read model: set maxmemory-policy noeviction",
			"address", c.address, "maxmemory", limit, "maxmemory-policy", policy)
	}
}

// Close closes the connections; views fail afterwards. It is safe to call twice.
func (c *Client) Close() error {
	err := errors.Join(c.reads.Close(), c.writes.Close())
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}

// unavailable wraps an error that the server, or the way to it, is the cause of.
func (c *Client) unavailable(what string, err error) error {
	return fmt.Errorf("redis at %s: %s: %w: %w", c.address, what, projections.ErrUnavailable, err)
}

// quiet gives the driver our logger once; it has but one for the whole process.
var quiet sync.Once

// driverLog takes what the driver says. All of it is also in the errors that it returns.
type driverLog struct{}

func (driverLog) Printf(ctx context.Context, format string, v ...any) {
	slog.DebugContext(ctx, "redis driver", "message", fmt.Sprintf(format, v...))
}

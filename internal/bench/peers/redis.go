package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tributary-es/tributary/internal/engine"
)

var redisKind = Kind{
	Name: "redis", Check: "XLEN in a Lua script, appendfsync always",
	Start: startRedis,
	Lacks: map[string]string{"read-all": "a stream a key, no order over all of them"},
}

// redisPeer is Redis Streams: a stream a key. A script checks the length and adds, which Redis does as one.
type redisPeer struct {
	server *engine.Redis
	client *redis.Client
}

func startRedis(ctx context.Context, dir string) (Peer, string, error) {
	cache, err := engine.CacheDir()
	if err != nil {
		return nil, "", fmt.Errorf("find cache folder: %w", err)
	}
	if _, err := engine.Lookup("redis").Fetch(ctx, cache, engine.FetchOptions{Out: os.Stderr}); err != nil {
		return nil, "", missing("%v", err)
	}
	server, err := engine.StartRedis(ctx, engine.RedisOptions{Dir: dir, AppendOnly: true, Args: []string{"--appendfsync", "always"}})
	if err != nil {
		return nil, "", err
	}
	p := &redisPeer{server: server, client: redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 256})}
	info, err := p.client.Info(ctx, "server").Result()
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("ask redis for its version: %w", err), p.Close())
	}
	_, version, _ := strings.Cut(info, "redis_version:")
	version, _, _ = strings.Cut(version, "\r")
	return p, version, nil
}

var redisAppend = redis.NewScript(`
if redis.call('XLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return redis.error_reply('CONFLICT') end
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'p', ARGV[i]) end
return 1`)

func (p *redisPeer) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	args := make([]any, 0, len(payloads)+1)
	args = append(args, at.Version)
	for _, b := range payloads {
		args = append(args, b)
	}
	if err := redisAppend.Run(ctx, p.client, []string{stream}, args...).Err(); err != nil {
		return at, fmt.Errorf("append to redis: %w", err)
	}
	at.Version += uint64(len(payloads))
	return at, nil
}

func (p *redisPeer) Load(ctx context.Context, stream string) (int, error) {
	events, err := p.client.XRange(ctx, stream, "-", "+").Result()
	if err != nil {
		return 0, fmt.Errorf("load from redis: %w", err)
	}
	return len(events), nil
}

func (p *redisPeer) ReadAll(context.Context) (int, error) { return 0, errors.ErrUnsupported }

func (p *redisPeer) Close() error { return errors.Join(p.client.Close(), p.server.Close()) }

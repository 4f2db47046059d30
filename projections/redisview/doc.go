// Package redisview keeps read models in Redis 7 or newer. A View is a projections.Sink for one projection and answers
// its reads.
//
//	Commit:  WATCH cursor, read cursor ─► fold, reduce ─► MULTI, writes, new cursor, EXEC      two round trips
//	read:    the key, then which generation is live                                            one round trip
//
// The model and its cursor move in one transaction, so each event counts exactly once: a commit of which the answer was
// lost is recognized by its cursor, and whatever a server brings back after a crash or a failover is a whole model of
// some earlier position, from which the runner goes on. A server that was emptied has no cursor; that is noticed by the
// next commit, by the next look of an idle runner, and by every read, which answers projections.ErrRebuilding rather
// than that there is no such thing.
//
// Each model is one generation, a number within its keys, so that a new one is filled beside the live one and goes live
// by renaming one small hash. docs/redis.md describes the keys for those who come with another client.
//
// Redis must not evict keys (maxmemory-policy noeviction), and of a Redis Cluster all keys must be of one slot: give
// Options.Prefix a hash tag, such as "{tributary}".
package redisview

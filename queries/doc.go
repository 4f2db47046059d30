// Package queries answers from read models, and says how fresh the answer is.
//
// A query names the projection it reads. It may carry the position of a receipt: then it waits, bounded, until the
// projection has come that far, so that clients read their own writes. Every answer says the position it stands at.
//
// The package reads Redis and ClickHouse through the small interfaces here, which redisview and clickview implement; it
// never sees commands.
package queries

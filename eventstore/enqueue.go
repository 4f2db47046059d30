package eventstore

import "context"

// Enqueuer is an Appender whose callers need not wait: for those who have many appends under way, and would need as many
// goroutines.
type Enqueuer interface {
	// Enqueue appends the requests as Append does, and returns when it has taken them, which it does as fast as its queue
	// allows. Where requests of one call, or of calls one after the other, are for the same stream, they are judged in their
	// order.
	//
	// done is called once for each request, with its place among them, from any goroutine and maybe before Enqueue returns.
	// It must not block: others wait for their answers meanwhile. When ctx ends, the requests that are not on their way to
	// the disk yet are answered with its error; unlike with Append, that is not before the store has come to them.
	//
	// The store takes ownership of the requests and their slices; the caller must not change them afterwards.
	Enqueue(ctx context.Context, requests []Request, done func(i int, a Answer))
}

// Answer is what became of a request that was enqueued.
type Answer struct {
	Receipt Receipt
	Err     error
	// Wait, when set, is for a request that is recorded, and not yet as durable as it asked: it returns what Append would,
	// when that has come about. It may be called in the place of this answer, once, and blocks.
	Wait func(ctx context.Context) (Receipt, error)
}

// Enqueue has the requests appended in their order: by Enqueue, where the store is an Enqueuer, else one after the other.
func Enqueue(ctx context.Context, to Appender, requests []Request, done func(i int, a Answer)) {
	if q, ok := to.(Enqueuer); ok {
		q.Enqueue(ctx, requests, done)
		return
	}
	for i := range requests {
		receipt, err := to.Append(ctx, requests[i])
		done(i, Answer{Receipt: receipt, Err: err})
	}
}

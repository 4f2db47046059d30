package wire

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// firstPage is room for a stream of a few dozen events: most reads have no more.
const firstPage = 16 << 10

// largestKept bounds the bodies that are kept: one that had to hold a single event of many megabytes is let go.
const largestKept = 1 << 20

// bodies is a pool of pages' bodies. gRPC's own clears what it hands out, all of it, which for a page of hundreds of events
// costs as much as writing it does. First pages are kept apart, so that a small read does not hold on to a large body.
var bodies bodyPool

type bodyPool struct{ first, large sync.Pool }

var _ mem.BufferPool = (*bodyPool)(nil)

// Get returns a body with anything in it: of about the size asked for, which is a guess anyway.
func (p *bodyPool) Get(size int) *[]byte {
	if body, ok := p.of(size).Get().(*[]byte); ok {
		return body
	}
	body := make([]byte, 0, size)
	return &body
}

// Put takes a body back.
func (p *bodyPool) Put(body *[]byte) {
	if cap(*body) <= largestKept {
		p.of(cap(*body)).Put(body)
	}
}

func (p *bodyPool) of(size int) *sync.Pool {
	if size <= firstPage {
		return &p.first
	}
	return &p.large
}

package wire

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// firstPage is room for a few events: most reads have no more.
const firstPage = 4 << 10

// largestKept bounds the bodies that are kept: one that had to hold a single event of many megabytes is let go.
const largestKept = 1 << 20

// bodies is a pool of pages' bodies. Small ones are left to gRPC's own pool. That clears what it hands out, all of it, which
// for a page of hundreds of events costs as much as writing it does.
var bodies bodyPool

type bodyPool struct{ large sync.Pool }

var _ mem.BufferPool = (*bodyPool)(nil)

// Get returns a body of some size and capacity, with anything in it: about as large as asked for, which is a guess anyway.
func (p *bodyPool) Get(size int) *[]byte {
	if size > firstPage {
		if body, ok := p.large.Get().(*[]byte); ok {
			return body
		}
		body := make([]byte, 0, size)
		return &body
	}
	return mem.DefaultBufferPool().Get(size)
}

// Put takes a body back.
func (p *bodyPool) Put(body *[]byte) {
	switch {
	case cap(*body) <= firstPage:
		mem.DefaultBufferPool().Put(body)
	case cap(*body) <= largestKept:
		p.large.Put(body)
	}
}

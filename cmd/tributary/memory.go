package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	trimEvery  = 5 * time.Second
	trimQuiet  = 16 << 20 // allocated in trimEvery at most, or the process is busy
	trimWasted = 64 << 20 // held beyond what is in use at least, or it is not worth a collection
)

// trimMemory gives memory back to the system once a burst of work is over, until ctx ends. The runtime alone keeps as much
// as the heap needed at its largest for minutes: an import would leave an idle server with several times of what it uses.
func trimMemory(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	var t trimmer
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if t.due(readHeap()) {
				debug.FreeOSMemory()
			}
		}
	}
}

// heap is what the runtime says of its memory, in bytes.
type heap struct {
	allocated uint64 // since the start
	resident  uint64 // held from the system
	live      uint64 // in use at the end of the last collection
}

// trimmer decides when memory is given back.
type trimmer struct {
	allocated uint64 // at the last look
	trimmed   uint64 // allocated when memory was last given back
}

// due reports whether little happens now, and enough memory is held for nothing. What was given back once is not asked for
// again before the process has allocated as much anew: what is held then is fragmented, not free.
func (t *trimmer) due(h heap) bool {
	recent := h.allocated - t.allocated
	t.allocated = h.allocated
	if recent > trimQuiet || h.resident < h.live+trimWasted || h.allocated-t.trimmed < trimWasted {
		return false
	}
	t.trimmed = h.allocated
	return true
}

func readHeap() heap {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	return heap{
		allocated: samples[0].Value.Uint64(),
		resident:  samples[1].Value.Uint64() - samples[2].Value.Uint64(),
		live:      samples[3].Value.Uint64(),
	}
}

package pebblestore

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/anishathalye/porcupine"
	"github.com/tributary-es/tributary/eventstore"
)

// A history is checked for linearizability cell by cell. A cell is two streams and two tags that are only used with each
// other, so that a request, its expectations and its condition touch one cell, and a history is linearizable if each of
// its cells is. What is judged over cells is their common order, which checkOrder compares with real time.
const (
	cellStreams = 2
	cellTags    = 2
)

// linearInput is what a client asked. A request that is repeated because its answer was lost is one operation, from the
// first call to the answer that came in the end.
type linearInput struct {
	cell int
	read bool // of one stream's version and one tag's last place, which is two operations
	// What is read; -1: not that.
	stream, tag int
	// What is appended.
	id      string
	expects [cellStreams]eventstore.Expect // of the streams that get events
	counts  [cellStreams]int               // events for each stream
	tags    [cellTags]bool                 // tags of the first event
	guarded int                            // tag of the condition; -1: none
	after   uint64                         // lsn of the condition
}

// linearOutput is what a client was told.
type linearOutput struct {
	unknown  bool // no answer ever came: it may have had its effect, or not
	value    uint64
	accepted bool
	at       place
	versions [cellStreams]uint64 // after an accepted request, of the streams it touched
	found    [cellStreams]int64  // of a conflict: the version of a stream that failed, else -1
	met      uint64              // of a conflict: what the condition met, else 0
	before   bool                // the answer was a duplicate's
}

// cellState is one cell after some operations. It is never changed.
type cellState struct {
	versions [cellStreams]uint64
	lasts    [cellTags]uint64 // lsn of the last event with the tag
	end      uint64           // lsn of the last event
	applied  uint64           // of the requests: a sum of hashes, whatever their order
	requests *appliedRequest  // the last one
}

type appliedRequest struct {
	id     string
	at     place
	before *appliedRequest
}

var idSeed = maphash.MakeSeed()

func (s cellState) find(id string) *appliedRequest {
	for r := s.requests; r != nil; r = r.before {
		if r.id == id {
			return r
		}
	}
	return nil
}

// cellModel says what a cell may answer.
var cellModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		cells := map[int][]porcupine.Operation{}
		for _, op := range history {
			cell := op.Input.(linearInput).cell
			cells[cell] = append(cells[cell], op)
		}
		var parts [][]porcupine.Operation
		for _, ops := range cells {
			parts = append(parts, ops)
		}
		return parts
	},
	Init: func() any { return cellState{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(cellState).step(input.(linearInput), output.(linearOutput))
	},
	Equal: func(a, b any) bool {
		x, y := a.(cellState), b.(cellState)
		x.requests, y.requests = nil, nil // applied stands for them
		return x == y
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

func (s cellState) step(in linearInput, out linearOutput) (bool, any) {
	if in.read {
		return out.unknown || in.tag < 0 && out.value == s.versions[in.stream] || in.tag >= 0 && out.value == s.lasts[in.tag], s
	}
	if earlier := s.find(in.id); earlier != nil { // of a request whose ID was used: the first one's answer
		return out.unknown || out.accepted && out.before && out.at == earlier.at, s
	}
	refused, found := false, [cellStreams]int64{-1, -1}
	for i, n := range in.counts {
		if n > 0 && !in.expects[i].Holds(s.versions[i]) {
			refused, found[i] = true, int64(s.versions[i])
		}
	}
	met := uint64(0)
	if in.guarded >= 0 && s.lasts[in.guarded] > in.after {
		refused, met = true, s.lasts[in.guarded]
	}
	switch {
	case refused:
		return out.unknown || !out.accepted && out.found == found && out.met == met, s
	case out.unknown: // had it been applied, its place would be known: see resolve
		return true, s
	case !out.accepted || out.at.first <= s.end:
		return false, s
	}
	events := uint64(0)
	for i, n := range in.counts {
		s.versions[i] += uint64(n)
		events += uint64(n)
		if n > 0 && out.versions[i] != s.versions[i] {
			return false, s
		}
	}
	if out.at.last != out.at.first+events-1 {
		return false, s
	}
	for i, tagged := range in.tags {
		if tagged {
			s.lasts[i] = out.at.first
		}
	}
	s.end = out.at.last
	s.applied += maphash.String(idSeed, in.id)
	s.requests = &appliedRequest{in.id, out.at, s.requests}
	return true, s
}

// checkOrder wants the order of the log to be that of real time: who calls after another was answered stands behind it.
func checkOrder(history []porcupine.Operation) error {
	var calls, returns []porcupine.Operation
	for _, op := range history {
		if out := op.Output.(linearOutput); out.accepted && !out.before {
			calls, returns = append(calls, op), append(returns, op)
		}
	}
	slices.SortFunc(calls, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortFunc(returns, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	end, i := uint64(0), 0
	for _, op := range calls {
		for ; i < len(returns) && returns[i].Return < op.Call; i++ {
			end = max(end, returns[i].Output.(linearOutput).at.last)
		}
		if out := op.Output.(linearOutput); out.at.first <= end {
			return fmt.Errorf("request %s stands at lsn %d, though lsn %d was acknowledged before it was made", op.Input.(linearInput).id, out.at.first, end)
		}
	}
	return nil
}

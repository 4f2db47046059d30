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
// first call to the answer that came in the end. The fields are exported for JSON.
type linearInput struct {
	Cell int
	Read bool // of the version of Stream, or of the last place of Tag when Stream is -1
	// Of a read; Tag is that of the condition of an append too, -1 for none.
	Stream, Tag int

	ID      string
	Again   bool                           // a request that was accepted before
	Expects [cellStreams]eventstore.Expect // of the streams that get events
	Counts  [cellStreams]int               // events for each stream
	Tags    [cellTags]bool                 // of the first event
	After   uint64                         // lsn of the condition
}

// linearOutput is what a client was told.
type linearOutput struct {
	Value       uint64 // that was read
	Accepted    bool
	Duplicate   bool
	First, Last uint64              // lsn
	Versions    [cellStreams]uint64 // after the request, of the streams that got events
	Found       [cellStreams]int64  // of a conflict: the version of each stream that failed, else -1
	Met         uint64              // of a conflict: what the condition met, else 0
	Fault       string              // anything else
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
	id          string
	first, last uint64 // lsn
	versions    [cellStreams]uint64
	before      *appliedRequest
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
			cell := op.Input.(linearInput).Cell
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
	if out.Fault != "" {
		return false, s
	}
	if in.Read {
		return in.Stream < 0 && out.Value == s.lasts[in.Tag] || in.Stream >= 0 && out.Value == s.versions[in.Stream], s
	}
	if in.Again {
		first := s.find(in.ID)
		return first != nil && out.Accepted && out.Duplicate && out.First == first.first && out.Last == first.last && out.Versions == first.versions, s
	}
	refused, found := false, [cellStreams]int64{-1, -1}
	for i, n := range in.Counts {
		if n > 0 && !in.Expects[i].Holds(s.versions[i]) {
			refused, found[i] = true, int64(s.versions[i])
		}
	}
	met := uint64(0)
	if in.Tag >= 0 && s.lasts[in.Tag] > in.After {
		refused, met = true, s.lasts[in.Tag]
	}
	if refused || !out.Accepted {
		return refused && !out.Accepted && out.Found == found && out.Met == met, s
	}
	if out.First <= s.end {
		return false, s
	}
	events := uint64(0)
	for i, n := range in.Counts {
		s.versions[i] += uint64(n)
		events += uint64(n)
		if n > 0 && out.Versions[i] != s.versions[i] {
			return false, s
		}
	}
	for i, tagged := range in.Tags {
		if tagged {
			s.lasts[i] = out.First
		}
	}
	s.end = out.Last
	s.applied += maphash.String(idSeed, in.ID)
	s.requests = &appliedRequest{in.ID, out.First, out.Last, out.Versions, s.requests}
	return out.Last == out.First+events-1, s
}

// checkOrder wants the order of the log to be that of real time: who calls after another was answered stands behind it.
func checkOrder(history []porcupine.Operation) error {
	var calls, returns []porcupine.Operation
	for _, op := range history {
		if out := op.Output.(linearOutput); out.Accepted && !op.Input.(linearInput).Again {
			calls, returns = append(calls, op), append(returns, op)
		}
	}
	slices.SortFunc(calls, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortFunc(returns, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	end, i := uint64(0), 0
	for _, op := range calls {
		for ; i < len(returns) && returns[i].Return < op.Call; i++ {
			end = max(end, returns[i].Output.(linearOutput).Last)
		}
		if out := op.Output.(linearOutput); out.First <= end {
			return fmt.Errorf("request %s stands at lsn %d, though lsn %d was acknowledged before it was made", op.Input.(linearInput).ID, out.First, end)
		}
	}
	return nil
}

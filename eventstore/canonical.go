package eventstore

import "cmp"

// CompareCanonical orders events by their HLC, then by their dot. That order is the same at every site whatever the order
// in which they came, and an event that another was decided with the knowledge of stands before it: sites take in each
// other's clocks. Versions are no such order: of two sites that write a stream at once, both give the next one.
func (r *Recorded) CompareCanonical(other *Recorded) int {
	return cmp.Or(cmp.Compare(r.HLC, other.HLC), r.Dot.Log.Compare(other.Dot.Log), cmp.Compare(r.Dot.Seq, other.Dot.Seq))
}

// Knew reports whether r was decided with the knowledge of e, another event of its stream: e stands before it in the same
// log, or is covered by what the decider had folded (Context), or, where it did not say, by what its site had (Dep).
func (r *Recorded) Knew(e *Recorded) bool {
	if r.Dot.Log == e.Dot.Log {
		return e.Dot.Seq < r.Dot.Seq
	}
	if len(r.Context) > 0 {
		return r.Context.At(e.Dot.Log) >= e.Dot.Seq
	}
	return r.Dep.At(e.Dot.Log) >= e.Dot.Seq
}

// Concurrent reports whether neither of two events of a stream was decided with the knowledge of the other.
func Concurrent(e, f *Recorded) bool { return !e.Knew(f) && !f.Knew(e) }

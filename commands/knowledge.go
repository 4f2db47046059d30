package commands

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Digest stands for a set of events of a stream: the sum, modulo 2¹²⁸, of a hash of each one's dot. What is folded from a set in
// canonical order is the same wherever the set is, so equal digests are equal states.
type Digest [16]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// plus returns the digest of two sets that have nothing in common.
func (d Digest) plus(e Digest) (sum Digest) {
	low, carry := bits.Add64(binary.BigEndian.Uint64(d[8:]), binary.BigEndian.Uint64(e[8:]), 0)
	high, _ := bits.Add64(binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(e[:8]), carry)
	binary.BigEndian.PutUint64(sum[8:], low)
	binary.BigEndian.PutUint64(sum[:8], high)
	return sum
}

func digestOf(dot eventstore.Dot) Digest {
	sum := sha256.Sum256([]byte(dot.String()))
	return Digest(sum[:16])
}

// knowledge says of the events of a stream which others they were decided with the knowledge of. That is of each log all up to
// some event, so that sums along each log give the digest of any of it.
type knowledge struct {
	logs []eventstore.LogID
	of   map[eventstore.LogID]*logSums
	// counted is the digest of the events that count.
	counted Digest
}

// logSums are the events of one log, by seq, and the digests of them up to each.
type logSums struct {
	events []*eventstore.Recorded
	sums   []Digest // one more than events; the first is empty
}

func newKnowledge(events []eventstore.Recorded) *knowledge {
	k := &knowledge{of: map[eventstore.LogID]*logSums{}}
	for i := range events {
		r := &events[i]
		l := k.of[r.Dot.Log]
		if l == nil {
			l = &logSums{sums: make([]Digest, 1)}
			k.of[r.Dot.Log] = l
			k.logs = append(k.logs, r.Dot.Log)
		}
		l.events = append(l.events, r)
		l.sums = append(l.sums, l.sums[len(l.sums)-1].plus(digestOf(r.Dot)))
	}
	slices.SortFunc(k.logs, eventstore.LogID.Compare)
	return k
}

// counts adds an event to those that count.
func (k *knowledge) counts(r *eventstore.Recorded) { k.counted = k.counted.plus(digestOf(r.Dot)) }

// upTo returns how many events of a log stand up to a seq.
func (k *knowledge) upTo(log eventstore.LogID, seq uint64) int {
	n, _ := slices.BinarySearchFunc(k.of[log].events, seq+1, func(r *eventstore.Recorded, seq uint64) int {
		switch {
		case r.Dot.Seq < seq:
			return -1
		case r.Dot.Seq > seq:
			return 1
		}
		return 0
	})
	return n
}

// known returns for each log how many of its events r was decided with the knowledge of.
func (k *knowledge) known(r *eventstore.Recorded) []int {
	counts := make([]int, len(k.logs))
	for i, log := range k.logs {
		switch {
		case log == r.Dot.Log:
			counts[i] = k.upTo(log, r.Dot.Seq-1)
		case len(r.Context) > 0:
			counts[i] = k.upTo(log, r.Context.At(log))
		default:
			counts[i] = k.upTo(log, r.Dep.At(log))
		}
	}
	return counts
}

// digest returns that of the first events of each log.
func (k *knowledge) digest(counts []int) (d Digest) {
	for i, log := range k.logs {
		d = d.plus(k.of[log].sums[counts[i]])
	}
	return d
}

// describe fills in what both sides of a conflict had: of the event r, and of those that folded covers and r did not know.
func (k *knowledge) describe(o *Outcome, r *eventstore.Recorded, folded eventstore.Vector) {
	own := k.known(r)
	base := slices.Clone(own)
	o.Branches = append(o.Branches, Side{r.Dot.Log, k.digest(own).plus(digestOf(r.Dot))})
	for i, log := range k.logs {
		last := k.upTo(log, folded.At(log))
		if log == r.Dot.Log || own[i] >= last {
			continue
		}
		events := k.of[log].events
		for j, n := range k.known(events[own[i]]) {
			base[j] = min(base[j], n)
		}
		end := events[last-1]
		o.Branches = append(o.Branches, Side{log, k.digest(k.known(end)).plus(digestOf(end.Dot))})
	}
	o.Base = k.digest(base)
}

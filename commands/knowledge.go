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
// some event, so that sums along each log give the digest of any of it. What an event was decided with the knowledge of stands before
// it in canonical order, in which they are added.
type knowledge struct {
	logs []eventstore.LogID // in order
	of   map[eventstore.LogID]*logSums
	// counted is the digest of the events that count.
	counted Digest
}

// logSums are the events of one log, by seq, and the digests of them up to each.
type logSums struct {
	events  []*eventstore.Recorded
	digests []Digest // of each
	sums    []Digest // one more than events; the first is empty
}

// add adds the next event, by its digest, which counts or does not.
func (k *knowledge) add(r *eventstore.Recorded, digest Digest, counts bool) {
	l := k.of[r.Dot.Log]
	if l == nil {
		if k.of == nil {
			k.of = map[eventstore.LogID]*logSums{}
		}
		l = &logSums{sums: make([]Digest, 1)}
		k.of[r.Dot.Log] = l
		at, _ := slices.BinarySearchFunc(k.logs, r.Dot.Log, eventstore.LogID.Compare)
		k.logs = slices.Insert(k.logs, at, r.Dot.Log)
	}
	l.events = append(l.events, r)
	l.digests = append(l.digests, digest)
	l.sums = append(l.sums, l.sums[len(l.sums)-1].plus(digest))
	if counts {
		k.counted = k.counted.plus(digest)
	}
}

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

// describe fills in what both sides of a conflict had: of the event r, which comes next, and of those before it that it did not know.
func (k *knowledge) describe(o *Outcome, r *eventstore.Recorded, digest Digest) {
	own := k.known(r)
	base := slices.Clone(own)
	o.Branches = append(o.Branches, Side{r.Dot.Log, k.digest(own).plus(digest)})
	for i, log := range k.logs {
		l := k.of[log]
		last := len(l.events)
		if log == r.Dot.Log || own[i] >= last {
			continue
		}
		for j, n := range k.known(l.events[own[i]]) {
			base[j] = min(base[j], n)
		}
		o.Branches = append(o.Branches, Side{log, k.digest(k.known(l.events[last-1])).plus(l.digests[last-1])})
	}
	o.Base = k.digest(base)
}

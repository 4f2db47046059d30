package pebblestore

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// term is what events are found by besides their stream: a category, a type or a tag of a tenant.
type term struct {
	kind         termKind
	tenant, text string
}

type termKind byte

const (
	categoryTerm termKind = 'c'
	typeTerm     termKind = 'y'
	tagTerm      termKind = 'g'
)

// String returns the name of the kind.
func (k termKind) String() string {
	switch k {
	case categoryTerm:
		return "category"
	case typeTerm:
		return "type"
	}
	return "tag"
}

// termsOf calls each with the terms of an event.
func termsOf(e *eventstore.Recorded, each func(term)) {
	each(term{categoryTerm, e.Stream.Tenant, e.Stream.Category})
	each(term{typeTerm, e.Stream.Tenant, e.Type})
	for _, tag := range e.Tags {
		each(term{tagTerm, e.Stream.Tenant, tag})
	}
}

// termDigest stands for a term in keys: half a SHA-256, so that no two are ever the same. Texts may hold any byte and be
// long; digests are short and end by themselves.
type termDigest [16]byte

// key stands for the term in caches. It is another in each process: whoever knows the digests of tags cannot pick such as
// meet in one place.
func (d termDigest) key() headKey { return headKeyOfName(d[:]) }

func (t term) digest() termDigest {
	var buf [512]byte
	b := append(buf[:0], byte(t.kind))
	b = append(append(b, t.tenant...), 0)
	sum := sha256.Sum256(append(b, t.text...))
	return termDigest(sum[:16])
}

// termRun is the places of a term's events, in order.
type termRun struct{ lsns []uint64 }

func (r *termRun) last() uint64 { return r.lsns[len(r.lsns)-1] }

// termRuns is what a generation knows of terms. The category and the type of the event before are kept at hand: most
// events are of the same.
type termRuns struct {
	runs           map[term]*termRun
	tenants        []string // that have events here, sorted
	category, kind lastTerm
}

type lastTerm struct {
	term term
	run  *termRun
}

func (t *termRuns) add(e *eventstore.Recorded) {
	lsn := e.Position.LSN
	t.category.add(t, term{categoryTerm, e.Stream.Tenant, e.Stream.Category}, lsn)
	t.kind.add(t, term{typeTerm, e.Stream.Tenant, e.Type}, lsn)
	for _, tag := range e.Tags {
		r := t.run(term{tagTerm, e.Stream.Tenant, tag})
		r.lsns = append(r.lsns, lsn)
	}
}

func (l *lastTerm) add(t *termRuns, of term, lsn uint64) {
	if l.run == nil || l.term != of {
		l.term, l.run = of, t.run(of)
	}
	l.run.lsns = append(l.run.lsns, lsn)
}

func (t *termRuns) run(of term) *termRun {
	r := t.runs[of]
	if r == nil {
		r = &termRun{}
		t.runs[of] = r
		if i, known := slices.BinarySearch(t.tenants, of.tenant); !known {
			t.tenants = slices.Insert(slices.Clone(t.tenants), i, of.tenant) // readers may hold the old list
		}
	}
	return r
}

// tenants returns the tenants that have events here.
func (r *recent) tenants() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.old == nil {
		return r.young.terms.tenants
	}
	return slices.Concat(r.young.terms.tenants, r.old.terms.tenants)
}

// write calls set with the terms' entries in the order of their keys.
func (t *termRuns) write(set func(key, value []byte) error) error {
	type entry struct {
		digest termDigest
		run    *termRun
	}
	entries := make([]entry, 0, len(t.runs))
	for of, run := range t.runs {
		entries = append(entries, entry{of.digest(), run})
	}
	slices.SortFunc(entries, func(a, b entry) int { return slices.Compare(a.digest[:], b.digest[:]) })
	var key, value []byte
	for _, e := range entries {
		for i := (len(e.run.lsns) - 1) / maxTermRun * maxTermRun; i >= 0; i -= maxTermRun {
			part := e.run.lsns[i:min(i+maxTermRun, len(e.run.lsns))]
			key = appendTermKey(key[:0], e.digest, part[0])
			value = appendRun(value[:0], part)
			if err := set(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxTermRun bounds how many events one term key stands for.
const maxTermRun = 2048

// appendTermPrefix appends what the keys of a term begin with.
func appendTermPrefix(dst []byte, digest termDigest) []byte {
	return append(append(dst, termPrefix), digest[:]...)
}

// appendTermKey appends the key of the run that begins at an lsn.
func appendTermKey(dst []byte, digest termDigest, first uint64) []byte {
	return binary.BigEndian.AppendUint64(appendTermPrefix(dst, digest), ^first)
}

// termPrefixBytes is the length of the prefix of a term's keys.
const termPrefixBytes = 1 + len(termDigest{})

// termPlaces returns what is known here of a term, the older first. The lists only grow: what is returned stays as it is.
func (r *recent) termPlaces(of term) (lists [2][]uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.old != nil {
		if run := r.old.terms.runs[of]; run != nil {
			lists[0] = run.lsns
		}
	}
	if run := r.young.terms.runs[of]; run != nil {
		lists[1] = run.lsns
	}
	return lists
}

// termLast returns the place of the last event of a term, if it is known here. If it is not, the index has it, and turns
// is for rememberTerm.
func (r *recent) termLast(of term) (lsn uint64, known bool, turns int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if run := r.young.terms.runs[of]; run != nil {
		return run.last(), true, r.turns
	}
	if r.old != nil {
		if run := r.old.terms.runs[of]; run != nil {
			return run.last(), true, r.turns
		}
	}
	lsn, known = r.tags.get(of.digest().key())
	return lsn, known, r.turns
}

// rememberTerm keeps a place that was found in the index after a look here at turns. What came since is found here before
// it, unless it left memory meanwhile.
func (r *recent) rememberTerm(of term, lsn uint64, turns int) {
	if lsn == 0 { // terms that have no events would drive out those that have
		return
	}
	k := of.digest().key()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turns == turns {
		r.tags.put(k, lsn)
	}
}

// keepTags puts the last places of a generation's tags into the cache. It is called before the generation leaves memory.
func (r *recent) keepTags(g *generation) {
	for of, run := range g.terms.runs {
		if of.kind != tagTerm {
			continue
		}
		k := of.digest().key()
		r.mu.Lock()
		r.tags.put(k, run.last())
		r.mu.Unlock()
	}
}

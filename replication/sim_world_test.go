package replication_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// world is some sites, what connects them, those who use them, and one clock that nobody in it can see. All that happens is
// an entry of one queue, and all that is left to chance is drawn from one source: a seed is a whole history.
type world struct {
	rand  *rand.Rand
	now   time.Duration
	queue queue
	plan  plan

	sites   []*site
	network network
	ring    *replication.Ring // of the cells; nil: nothing is written at one site alone
	clients []*client
	booked  int // commands that are nobody's
	faults  faults
	oracle  *oracle

	// calm begins when nothing is to go wrong any more.
	calm             bool
	calmAt, alike    time.Duration // since when, and how long the sites then took to be alike
	steps, mostSteps int
	putBack          bool // a disk was put back to an earlier state

	digest uint64 // of all that happened, in order
	trace  func(line string)
}

// epoch is what a right clock shows when a history begins.
var epoch = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

func newWorld(seed uint64, trace func(line string)) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 0x7472696275746172)), trace: trace, digest: seed, mostSteps: mostSteps}
	w.plan = drawPlan(w.rand)
	if w.plan.drawVaults(seed); w.plan.vaults {
		w.ring = rings[w.plan.sites]
	}
	w.oracle = newOracle(w)
	for i := range w.plan.sites {
		w.sites = append(w.sites, &site{w: w, index: i, name: siteName(i)})
	}
	w.network = newNetwork(len(w.sites))
	for _, s := range w.sites {
		s.found()
	}
	return w
}

func siteName(i int) string { return string(rune('a' + i)) }

// begin opens the sites, lets the clients in, and has things go wrong.
func (w *world) begin() {
	for i, s := range w.sites {
		if i == 0 && w.plan.late {
			s.startIn(w.upTo(w.plan.duration))
			continue
		}
		s.start()
	}
	for range w.plan.clients {
		c := &client{w: w, number: len(w.clients)}
		w.clients = append(w.clients, c)
		w.after(w.upTo(time.Second), c.next)
	}
	w.faults.begin(w)
	w.beginVaults()
}

// after has something done when some time has passed.
func (w *world) after(d time.Duration, do func()) { w.queue.push(w.now+max(d, 0), do) }

// runUntil lets everything happen that is due by then.
func (w *world) runUntil(end time.Duration) {
	for w.queue.due(end) && !w.oracle.enough() && w.steps < w.mostSteps {
		at, do := w.queue.pop()
		w.now = max(w.now, at)
		if w.steps++; w.steps == w.mostSteps {
			w.oracle.violated("the core", "%d steps have brought the world to %s only", w.mostSteps, w.now)
			return
		}
		do()
	}
	w.now = max(w.now, end)
}

// mostSteps is what no history needs, but for one that waits long for a time to come: one that takes more goes in circles.
const mostSteps = 200_000

// upTo draws a time below d, between one above low and below high.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rand.Int64N(int64(d))) }

func (w *world) between(low, high time.Duration) time.Duration { return low + w.upTo(high-low) }

// chance draws yes with the given probability.
func (w *world) chance(p float64) bool { return p > 0 && w.rand.Float64() < p }

// other draws a site that is not s.
func (w *world) other(s *site) *site {
	return w.sites[(s.index+1+w.rand.IntN(len(w.sites)-1))%len(w.sites)]
}

// note takes something that happened into the digest.
func (w *world) note(what uint64, more ...uint64) {
	w.mix(what)
	w.mix(uint64(w.now))
	for _, m := range more {
		w.mix(m)
	}
}

func (w *world) mix(v uint64) { w.digest = (w.digest ^ v) * 0x9e3779b97f4a7c15 >> 1 }

// tracef says what happened to who reads along.
func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf("%9.3fs  ", w.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

// What the digest is told of.
const (
	noteStep uint64 = iota + 1
	noteAccept
	noteDurable
	noteCrash
	noteFault
	noteAnswer
)

// queue has what is still to happen, in the order of time, and of those of one time in the order in which they came.
type queue struct {
	entries []entry
	pushed  uint64
}

type entry struct {
	at time.Duration
	n  uint64
	do func()
}

func (e *entry) before(f *entry) bool { return e.at < f.at || e.at == f.at && e.n < f.n }

func (q *queue) due(end time.Duration) bool { return len(q.entries) > 0 && q.entries[0].at <= end }

func (q *queue) push(at time.Duration, do func()) {
	q.pushed++
	q.entries = append(q.entries, entry{at, q.pushed, do})
	i := len(q.entries) - 1
	for i > 0 {
		up := (i - 1) / 2
		if q.entries[up].before(&q.entries[i]) {
			break
		}
		q.entries[up], q.entries[i] = q.entries[i], q.entries[up]
		i = up
	}
}

func (q *queue) pop() (at time.Duration, do func()) {
	top := q.entries[0]
	last := len(q.entries) - 1
	q.entries[0] = q.entries[last]
	q.entries[last] = entry{}
	q.entries = q.entries[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.entries[child].before(&q.entries[least]) {
				least = child
			}
		}
		if least == i {
			return top.at, top.do
		}
		q.entries[i], q.entries[least] = q.entries[least], q.entries[i]
		i = least
	}
}

// wholeBatches returns the first events of one log that make whole batches, at most limit of them unless one batch alone has
// more.
func wholeBatches(events []eventstore.Recorded, limit int) []eventstore.Recorded {
	end := 0
	for i := range events {
		if events[i].EndsBatch() {
			if i+1 > limit && end > 0 {
				break
			}
			end = i + 1
		}
	}
	return events[:end]
}

package replication_test

import "time"

// network says who reaches whom. Every direction of every pair can be cut by itself, and so can each site's way to each
// topic. A cut drops what is sent while it lasts.
type network struct {
	sites  [][]bool // from, to: cut
	topics [][]bool // site, owner of the topic: cut
}

// longestFlight is how long a message is under way at most; then it has arrived, or never will.
const longestFlight = time.Second

func newNetwork(sites int) network {
	square := func() [][]bool {
		rows := make([][]bool, sites)
		for i := range rows {
			rows[i] = make([]bool, sites)
		}
		return rows
	}
	return network{sites: square(), topics: square()}
}

// mend ends every cut.
func (n *network) mend() {
	for i := range n.sites {
		clear(n.sites[i])
		clear(n.topics[i])
	}
}

// flight draws how long a message is under way.
func (w *world) flight() time.Duration {
	if w.chance(w.plan.slowMessages) {
		return w.between(50*time.Millisecond, longestFlight)
	}
	return w.between(500*time.Microsecond, 15*time.Millisecond)
}

// send has something done at another site when a message gets there: not at all, once, or twice.
func (w *world) send(from, to *site, do func()) {
	if w.network.sites[from.index][to.index] {
		return
	}
	copies := 1
	if !w.calm {
		if w.chance(w.plan.dropped) {
			w.faults.count(messageDropped)
			return
		}
		if w.chance(w.plan.duplicated) {
			w.faults.count(messageDuplicated)
			copies = 2
		}
	}
	for range copies {
		w.after(w.flight(), func() {
			to.runs(func() {
				if to.up {
					do()
				}
			})
		})
	}
}

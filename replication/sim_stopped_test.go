package replication_test

import (
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// lateWork is what a process that stands still does when it goes on.
type lateWork struct {
	do      func()
	decided bool // what a command has led to is to be recorded
}

// runs has something done in the site's process: at once, or when it goes on.
func (s *site) runs(do func()) { s.runsWork(lateWork{do: do}) }

func (s *site) runsWork(work lateWork) {
	if s.stopped {
		s.late = append(s.late, work)
		return
	}
	work.do()
}

// stop has the site's process stand still for a while. Its clocks do not, and what comes to it lies in its sockets.
func (s *site) stop(d time.Duration) {
	s.stopped, s.stops = true, 0
	boot := s.boot
	s.w.after(d, func() {
		if !s.stopped || s.boot != boot {
			return
		}
		if d > surelyGone {
			s.isGone()
		}
		s.goOn()
	})
}

// goOn has the process do what has come meanwhile: in the order in which it came, or in any; at times what it had decided on comes first,
// before it looks at its clock or its sockets.
func (s *site) goOn() {
	late := s.late
	s.stopped, s.late = false, nil
	if s.w.chance(0.5) {
		for _, work := range late {
			work.do()
		}
		return
	}
	s.w.rand.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
	if s.w.chance(0.5) {
		slices.SortStableFunc(late, func(a, b lateWork) int {
			switch {
			case a.decided == b.decided:
				return 0
			case a.decided:
				return -1
			}
			return 1
		})
	}
	for _, work := range late {
		work.do()
	}
}

// surelyGone is after what silence a site counts as away by every clock.
const surelyGone = 2300 * time.Millisecond

// absence is what another site had published when this one went on, having been silent for so long that the other may have taken
// what is written here: anything of it may be what says so.
type absence struct {
	by, boot int
	log      eventstore.LogID
	seq      uint64
	until    time.Duration // from when on it may be left alone, if it has not answered
}

// isGone notes what others have done.
func (s *site) isGone() {
	for _, o := range s.w.sites {
		if log := o.log.ID(); o != s && o.up && !o.stopped && o.core != nil && o.mirror.published[log].Seq > 0 {
			s.gone = append(s.gone, absence{o.index, o.boot, log, o.mirror.published[log].Seq, s.w.now + 4500*time.Millisecond})
		}
	}
	s.w.faults.count(takenForGone)
}

// homed checks, when a site is about to write and may write what is homed, that it has what others did while they took it for gone.
func (o *oracle) homed(s *site) {
	now := s.clock.at(o.w.now)
	until, err := s.core.AtHome(now)
	if err != nil || now.Mono >= until || o.w.putBack {
		return
	}
	s.gone = slices.DeleteFunc(s.gone, func(a absence) bool {
		by := o.w.sites[a.by]
		return o.w.now > a.until || by.boot != a.boot || by.log.ID() != a.log
	})
	for _, a := range s.gone {
		if i, t := o.log(a.log); s.view.held.at(i) < a.seq {
			o.violated("I8", "%s writes what is homed, after it had stood still, and has %s up to %d, which was published up to %d", s.name, t.id, s.view.held.at(i), a.seq)
		}
	}
}

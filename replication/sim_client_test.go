package replication_test

import (
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// client asks one site after another for something, waits for the answer, and asks again, also elsewhere, when there is none.
type client struct {
	w      *world
	number int
	asked  int
}

const mostTries = 5

// next asks for something new.
func (c *client) next() {
	if c.w.calm {
		return
	}
	c.asked++
	c.try(c.w.draw(c.number, c.asked), c.w.sites[c.w.rand.IntN(len(c.w.sites))], 1)
}

// try asks a site for a command once.
func (c *client) try(cmd *command, s *site, tries int) {
	w := c.w
	over := false
	end := func(done bool) {
		if over {
			return
		}
		over = true
		if done || tries == mostTries {
			w.after(w.between(w.plan.think/4, w.plan.think), c.next)
			return
		}
		next := s
		if !cmd.home && w.chance(0.5) {
			next = w.other(s)
		}
		w.after(w.between(10*time.Millisecond, 200*time.Millisecond), func() { c.try(cmd, next, tries+1) })
	}
	w.after(w.flight(), func() {
		s.runs(func() {
			s.handle(cmd, func(done bool) {
				if !w.chance(w.plan.answerLost) {
					w.after(w.flight(), func() { end(done) })
				}
			})
		})
	})
	w.after(800*time.Millisecond, func() { end(false) })
}

// handle decides on a command, has it recorded, and answers when that is durable; done is false for what may be tried again.
func (s *site) handle(cmd *command, answer func(done bool)) {
	if !s.takesWrites() {
		answer(false)
		return
	}
	d := s.decide(cmd)
	if d.rejected {
		answer(true)
		return
	}
	thinks := s.storeDelay()
	if s.w.chance(0.15) { // and much may come in between
		thinks += s.w.upTo(200 * time.Millisecond)
	}
	s.decided(thinks, func() {
		if !s.takesWrites() {
			answer(false)
			return
		}
		s.w.oracle.homed(s)
		s.w.oracle.timed(s)
		receipt, err := s.log.Accept(d.request)
		s.w.note(noteAccept, uint64(s.index), receipt.Position.LSN)
		if err != nil {
			answer(false)
			return
		}
		if !receipt.Duplicate {
			if d.folded != nil {
				s.view.folds[receipt.First.LSN] = d.folded
			}
			s.traceAccepted(cmd, receipt)
			if cmd.kind == bookVault {
				s.w.oracle.wrote(s, s.log.Stream(cmd.stream)[receipt.Streams[0].Last-1])
			}
		}
		s.whenDurable(s.log.Accepted().LSN, func() {
			s.w.oracle.ack(s, receipt)
			s.w.note(noteAnswer, uint64(s.index), receipt.Position.LSN)
			answer(true)
		})
	})
}

// takesWrites reports whether the site may record events now. When all is calm the work is over.
func (s *site) takesWrites() bool {
	return s.up && s.core != nil && s.core.Writable() == nil && !s.w.calm
}

func (s *site) traceAccepted(cmd *command, r eventstore.Receipt) {
	if s.w.trace != nil {
		s.w.tracef("%s records %s as places %d to %d", s.name, cmd.id, r.First.LSN, r.Position.LSN)
	}
}

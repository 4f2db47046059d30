package replication

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// put gives the core an input.
func (s *Site) put(ctx context.Context, in Input) error {
	select {
	case s.inbox <- in:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		return ErrStopped
	}
}

// carry starts what brings inputs by itself.
func (r *run) carry() {
	for _, name := range r.others() {
		r.carryOther(name)
	}
	r.carryTopic()
}

// carryTopic reads the site's own topic, and then tells the core what is added to it.
func (r *run) carryTopic() {
	read := false
	most := 0 // answers that an attempt has had
	r.keep(r.ctx, "topic", r.own.Site, func(ctx context.Context) error {
		if !read {
			answers := 0
			heads, err := r.o.Topic.Ends(ctx, func() {
				// An attempt that ends where the one before did brings nothing nearer.
				if answers++; answers > most {
					most = answers
					_ = r.put(ctx, TopicAnswers{}) // the run ends
				}
			})
			if err != nil {
				return err
			}
			state, err := r.o.Store.Log(ctx)
			if err != nil {
				return err
			}
			// One without events is as good as empty: it may have been made anew by this site's mirror, in a start that has come to no end.
			empty := !slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Seq > 0 })
			if empty && !r.o.Begun {
				if err := r.put(ctx, TopicAnswers{Empty: true}); err != nil {
					return err
				}
			}
			// An empty topic of a log that has events was made anew, and tells nothing of what others may have; unless nobody can
			// have anything of this life that is not here.
			if !empty || state.Seq == 0 || r.o.Begun {
				// A new site looks like one that has lost its disk together with its topic: the others tell them apart.
				if empty && !r.o.Begun {
					if err := r.allHeard(ctx); err != nil {
						return err
					}
				}
				for _, h := range heads {
					if h.Log != r.own {
						r.publish(eventstore.Dot{Log: h.Log, Seq: h.Seq})
					}
				}
				if err := r.put(ctx, Topic{heads}); err != nil {
					return err
				}
			}
			read = true
		}
		return r.o.Topic.Mirrored(ctx, func(ctx context.Context, d eventstore.Dot) error {
			r.publish(d)
			return r.put(ctx, Mirrored{d})
		})
	})
}

// reread has a link begin again where the store's own hold of its logs ends.
func (r *run) reread(reread Reread) {
	r.pace.forget(reread.Log)
	r.mu.Lock()
	if again := r.again[reread.Log.Site]; again != nil {
		(*again)()
	}
	look := reread.Log.Site == r.own.Site && !r.looks[reread.Log]
	if look {
		r.looks[reread.Log] = true
	}
	r.mu.Unlock()
	if look {
		r.carriers.Go(func() { r.lookIntoTopic(reread.Log) })
	}
}

// lookIntoTopic tells the core whether the site's own topic has more of an earlier life of the log.
func (r *run) lookIntoTopic(log eventstore.LogID) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.looks, log)
	}()
	has := TopicHas{Log: log}
	held, err := r.o.Store.Heads(r.ctx)
	if err == nil {
		for _, h := range held {
			if h.Log == log {
				has.After = h.Seq
			}
		}
		var anything bool
		has.Through, anything, err = r.o.Topic.Behind(r.ctx, log, held)
		has.Empty = !anything
	}
	if err != nil {
		r.log.Debug("it is not known what is left in the topic", slog.Any("error", err)) // it is asked again
		return
	}
	_ = r.put(r.ctx, has) // the run ends
}

// allHeard returns when every other site has spoken for itself. When that takes too long, the core begins another life.
func (r *run) allHeard(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := r.Overview(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(o.Peers, func(p PeerStatus) bool { return p.Heard < 0 }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// steady is after what time a thing that worked begins with short pauses again.
const steady = 10 * time.Second

// failing is how what does not work is said of what has begun at a time: at first others may not be there yet, which is no warning.
func failing(since time.Time) slog.Level {
	if time.Since(since) < steady {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// keep does something again and again until ctx ends, which is before the run does, and says when it begins to go wrong.
func (r *run) keep(ctx context.Context, what, name string, do func(context.Context) error) {
	r.carriers.Go(func() {
		said, pause := "", 20*time.Millisecond
		warned := false // of what was said
		since := time.Now()
		for {
			begun := time.Now()
			r.begins(ctx, [2]string{name, what})
			err := do(ctx)
			if ctx.Err() != nil {
				return
			}
			r.fails(ctx, [2]string{name, what}, err)
			if time.Since(begun) > steady {
				said, pause = "", 20*time.Millisecond
			}
			level := failing(since)
			if err != nil && (err.Error() != said || !warned && level == slog.LevelWarn) {
				said, warned = err.Error(), level == slog.LevelWarn
				r.log.Log(ctx, level, "replication is interrupted and tries again", slog.String(what, name), slog.Any("error", err))
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, r.o.MaxBackoff)
		}
	})
}

// trouble is how the last attempts at something with another site have gone.
type trouble struct {
	begun time.Time     // the attempt that is under way
	err   error         // of the last one
	took  time.Duration // until it had failed
	// calls counts the attempts, failures those that have ended with an error.
	calls, failures uint64
}

// begins notes that an attempt is under way, and fails how it has ended. What is said of a site goes when the site goes.
func (r *run) begins(ctx context.Context, what [2]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.troubles[what]; ctx.Err() == nil {
		t.begun = time.Now()
		t.calls++
		r.troubles[what] = t
	}
}

func (r *run) fails(ctx context.Context, what [2]string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.troubles[what]; ctx.Err() == nil {
		if t.err, t.took = err, time.Since(t.begun); err != nil {
			t.failures++
		}
		r.troubles[what] = t
	}
}

// persists returns the error of the last attempt, unless the one that is under way has gone on for longer.
func (t *trouble) persists() error {
	if time.Since(t.begun) > t.took+time.Second {
		return nil
	}
	return t.err
}

// brought takes what a link brings, when there is room for it.
func (s *Site) brought(ctx context.Context, events []eventstore.Recorded) error {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Dot.Log == events[0].Dot.Log {
			n++
		}
		if err := s.pace.wait(ctx, events[:n]); err != nil {
			return err
		}
		if err := s.put(ctx, Arrived{events[:n]}); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// do has done what the core wants.
func (r *run) do(out *Effects) {
	for _, receive := range out.Receive {
		r.carriers.Go(func() { r.receive(receive) })
	}
	for _, pull := range out.Pulls {
		r.carriers.Go(func() { r.pull(pull) })
	}
	for _, reread := range out.Rereads {
		r.reread(reread)
	}
	for _, log := range out.Broken {
		r.pace.pass(log)
	}
	if out.Follow != 0 && r.o.Clock.Follow(out.Follow) {
		r.log.Warn("the site follows a jump of the machine's time of day, for other sites agree with it", slog.Duration("by", out.Follow))
	}
	r.enter(out.Entries)
	if out.Beat != nil {
		r.spread(*out.Beat)
	}
}

// receive gives the store events.
func (r *run) receive(receive Receive) {
	last := &receive.Events[len(receive.Events)-1]
	seq, born := last.Dot.Seq, last.Time()
	in := Input(Refused{Log: receive.Log})
	_, err := r.o.Store.Receive(r.ctx, receive.Events)
	if err == nil {
		var head eventstore.LogHead
		if head, err = r.headOf(receive.Log, seq); err == nil {
			r.pace.received(head)
			r.lagged(receive.Log, born)
			r.sayHeld(head)
			in = Received{head}
		}
	}
	if err != nil {
		in = Refused{receive.Log, err}
	}
	_ = r.put(r.ctx, in) // the run ends
}

// headOf returns how far the store holds a log that it has up to a seq.
func (r *run) headOf(log eventstore.LogID, seq uint64) (eventstore.LogHead, error) {
	heads, err := r.o.Store.Heads(r.ctx)
	if err != nil {
		return eventstore.LogHead{}, err
	}
	for _, h := range heads {
		if h.Log == log && h.Seq >= seq {
			return h, nil
		}
	}
	return eventstore.LogHead{}, errors.New("the store does not have what it has received: " + eventstore.Dot{Log: log, Seq: seq}.String())
}

// pull asks another site.
func (r *run) pull(pull Pull) {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.PullTimeout)
	defer cancel()
	answer := Pulled{Pull: pull}
	if _, peer := r.other(pull.Site); peer != nil {
		answer.Chain, answer.Events, answer.Err = peer.Pull(ctx, pull)
	} else {
		answer.Err = errors.New("site " + pull.Site + " is not known")
	}
	if answer.Err != nil {
		r.log.Debug("a pull is not answered", slog.String("site", pull.Site), slog.String("log", pull.Log.String()), slog.Any("error", answer.Err))
	}
	_ = r.put(r.ctx, answer) // the run ends
}

func (r *run) lagged(log eventstore.LogID, born time.Time) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came[log] = came{now, max(now.Sub(born), 0)}
}

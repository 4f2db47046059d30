package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// silence notices brokers that do not answer, long before a request to them is given up: a batch has been on its way for longer than
// Options.SilentAfter. A mirror that holds its partition sends one at each heartbeat.
type silence struct {
	turn atomic.Uint64 // odd while a batch is on its way
}

// silentEvery is how often is looked whether the brokers have answered.
const silentEvery = 250 * time.Millisecond

// errSilent: the brokers do not answer.
var errSilent = errors.New("the brokers do not answer")

// begin and end enclose each batch's way to the brokers; there is one at a time.
func (x *silence) begin() { x.turn.Add(1) }

func (x *silence) end() { x.turn.Add(1) }

// watch looks until ctx ends, and tells begun and over what it has noticed. It counts its own looks rather than the time: in a process
// that was stopped, or that is hardly run on a busy machine, they stop too, and the brokers are not to blame.
func (x *silence) watch(ctx context.Context, after time.Duration, begun func(since time.Time), over func()) {
	tick := time.NewTicker(silentEvery)
	defer tick.Stop()
	silent, seen, looks := false, uint64(0), 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if turn := x.turn.Load(); turn != seen || turn%2 == 0 {
			seen, looks = turn, 0
			if silent {
				silent = false
				over()
			}
			continue
		}
		if looks++; !silent && time.Duration(looks)*silentEvery >= after {
			silent = true
			begun(time.Now().Add(-time.Duration(looks) * silentEvery))
		}
	}
}

// watchBrokers keeps Status.Silent, and says in it what is wrong, until ctx ends.
func (m *Mirror) watchBrokers(ctx context.Context, o *Options) {
	m.silence.watch(ctx, o.SilentAfter, func(since time.Time) {
		o.Logger.Warn("mirror waits: the brokers do not answer", "topic", o.Topic, "since", since)
		m.update(func(s *Status) {
			s.Silent, s.Err = since, fmt.Errorf("%w since %s", errSilent, since.UTC().Format(time.RFC3339))
		})
	}, func() {
		m.update(func(s *Status) {
			s.Silent = time.Time{}
			if errors.Is(s.Err, errSilent) {
				s.Err = nil
			}
		})
	})
}

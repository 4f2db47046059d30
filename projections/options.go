package projections

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// Options steer a Runner. The zero value is good.
type Options struct {
	// MaxBatch is how many events are committed at once when the projection is behind; zero means 1,000. A chunk that
	// the source gives at once is never split, so a batch may be larger.
	MaxBatch int
	// Linger is how long a commit waits for more events when the projection is up to date. Zero: not at all, which is
	// right for sinks that commit in a millisecond. Sinks to which each commit is dear want some 200 ms.
	Linger time.Duration
	// CheckEvery is how often an idle runner asks the sink whether its model is still there and the source how far the
	// log is; zero means one second. Entries of the log that the projection does not want move the sink's cursor no
	// more often than this.
	CheckEvery time.Duration
	// RetryMin and RetryMax bound the wait before a failed call to source or sink is repeated; it doubles from one to
	// the other. Zero means 50 ms and 5 s.
	RetryMin, RetryMax time.Duration
	// Logger takes what an operator should know; nil means slog.Default.
	Logger *slog.Logger
	// OnParked, when set, is told of events as they are parked. It must return soon.
	OnParked func([]Parked)
}

func (o Options) withDefaults() Options {
	o.MaxBatch = cmp.Or(o.MaxBatch, 1000)
	o.CheckEvery = cmp.Or(o.CheckEvery, time.Second)
	o.RetryMin = cmp.Or(o.RetryMin, 50*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// wait returns how long to wait before the attempt after the given number of failures.
func (o *Options) wait(failures int) time.Duration {
	if failures < 20 {
		return min(o.RetryMax, o.RetryMin<<failures)
	}
	return o.RetryMax
}

// pause waits before the attempt after the given number of failures, or until ctx ends.
func (o *Options) pause(ctx context.Context, failures int) error {
	t := time.NewTimer(o.wait(failures))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

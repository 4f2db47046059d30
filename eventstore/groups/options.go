package groups

import (
	"cmp"
	"log/slog"
	"time"
)

// Options of Groups. The zero value is good.
type Options struct {
	// Window is how many events of a group are in memory at most, from the first that is not settled on, give or take a
	// chunk; WindowBytes bounds their payloads. Zeros mean 1,024 and 8 MiB.
	Window      int
	WindowBytes int
	// A checkpoint is written after CheckpointEvents events were settled, or after CheckpointEvery when there was any;
	// zeros mean 10,000 and 1 s.
	CheckpointEvents int
	CheckpointEvery  time.Duration
	// MaxParked is how many events a group parks at most; zero means 1,000.
	MaxParked int
	// Idle is how long a group without members goes on running; zero means 5 s.
	Idle time.Duration
	// Timeout bounds the writing of a checkpoint; zero means 10 s.
	Timeout time.Duration
	Log     *slog.Logger
}

// maxWindow bounds Options.Window, and so the size of a checkpoint.
const maxWindow = 1 << 16

func (o Options) withDefaults() Options {
	o.Window = min(cmp.Or(max(o.Window, 0), 1024), maxWindow)
	o.WindowBytes = cmp.Or(max(o.WindowBytes, 0), 8<<20)
	o.CheckpointEvents = cmp.Or(max(o.CheckpointEvents, 0), 10_000)
	o.CheckpointEvery = cmp.Or(max(o.CheckpointEvery, 0), time.Second)
	o.MaxParked = cmp.Or(max(o.MaxParked, 0), 1_000)
	o.Idle = cmp.Or(max(o.Idle, 0), 5*time.Second)
	o.Timeout = cmp.Or(max(o.Timeout, 0), 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

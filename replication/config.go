package replication

import "time"

// Config of a Core. Site is required; the zero value of the rest is good.
type Config struct {
	// Site is the name of this site, Peers are those of the others.
	Site  string
	Peers []string
	// Begun says that the site's log has just begun the life that it is in, as Effects.Life wanted: nobody can know of events of it
	// that it lacks, so that it is writable before its topic is read.
	Begun bool

	// Heartbeat is how often the site speaks; zero means 250 ms.
	Heartbeat time.Duration
	// GapTimer is how long something that is missing may take to come by itself; zero means 250 ms.
	GapTimer time.Duration
	// PullTimeout is how long an answer may take before somebody else is asked; zero means 2 s.
	PullTimeout time.Duration
	// TopicPatience is for how long a site that has started waits for its own topic to answer anything more (TopicAnswers); then it begins
	// another life, which is always safe, and costs the rebuilding of what was read from the log. TopicAtMost is how long it waits for
	// one that goes on answering. Zero means 10 s and 1 minute.
	TopicPatience, TopicAtMost time.Duration
	// Suspect is after what silence a site counts as away, Down as down; zero means 2 s and 5 s.
	Suspect, Down time.Duration
	// Leases says that what is on record of takeovers is told (OnRecord, Members): until it is, the site is no home.
	Leases bool
	// Lease is for how long a home may write after it has sent what a majority of the sites has acknowledged, TakeOver after what silence
	// they let another site take over from it; zero means 3 s and 5 s. REQUIRES: TakeOver is longer by more than clocks drift.
	Lease, TakeOver time.Duration
	// MaxSkew is how far in the future an event may be that is received; zero means 500 ms.
	MaxSkew time.Duration
	// MaxStray is how far the site's clock may be from the median of all; ClockPatience is how long it may be off until the site counts as
	// fenced. Zero means 400 ms and 1 s.
	MaxStray, ClockPatience time.Duration
	// ClockWait is how long a site that has started waits for another one to say what time it is; then it goes by its own clock. Zero means
	// 5 s, less than zero not at all.
	ClockWait time.Duration

	// MaxWaiting bounds the events of a log that are kept for later; what comes beyond them is dropped, and pulled in its
	// time. Zero means 50,000.
	MaxWaiting int
	// MaxReceive bounds the events that the store is given at a time (whole batches may exceed it), MaxPull those that are
	// asked for at a time; zero means 5,000.
	MaxReceive, MaxPull int
}

func (c Config) withDefaults() Config {
	durations := []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.Heartbeat, 250 * time.Millisecond}, {&c.GapTimer, 250 * time.Millisecond}, {&c.PullTimeout, 2 * time.Second}, {&c.TopicPatience, 10 * time.Second},
		{&c.TopicAtMost, time.Minute}, {&c.Suspect, 2 * time.Second}, {&c.Down, 5 * time.Second}, {&c.Lease, 3 * time.Second}, {&c.TakeOver, 5 * time.Second},
		{&c.MaxSkew, 500 * time.Millisecond}, {&c.MaxStray, 400 * time.Millisecond}, {&c.ClockPatience, time.Second},
	}
	for _, d := range durations {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	if c.ClockWait == 0 {
		c.ClockWait = 5 * time.Second
	}
	for _, n := range []*int{&c.MaxReceive, &c.MaxPull} {
		if *n <= 0 {
			*n = 5000
		}
	}
	if c.MaxWaiting <= 0 {
		c.MaxWaiting = 50_000
	}
	return c
}

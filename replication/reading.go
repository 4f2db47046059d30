package replication

import "time"

// reading bounds how far another site's clock is ahead of this one's. What a site says has been under way for some time: for no less than none,
// and for no more than it took since the site was told what it answers. A machine that is busy makes that long, and the bounds wide; never wrong.
//
// Source: Cristian, "Probabilistic clock synchronization", 1989.
type reading struct {
	low, high time.Duration
	at        time.Duration // Instant.Mono
}

func (r *reading) width() time.Duration { return r.high - r.low }

func (r *reading) shift(by time.Duration) { r.low, r.high = r.low-by, r.high-by }

// unbounded is what a reading's width is when nothing was answered; clocks that are further apart than half of it count as that far apart.
const unbounded = time.Duration(1) << 61

// otherClock is what is known of another site's clock.
type otherClock struct {
	// readings are those of the last while that may still be the narrowest there is of it, the narrowest first.
	readings []reading
	// last is the last one that had an answer, whenever that was; nil is none.
	last *reading
	// jump is how far the time of day of that site's machine is ahead of what the site goes by.
	jump time.Duration
	// moved says that it has moved against this site's clock since it was first read, and has not been like it since.
	moved bool
}

// best returns the narrowest reading of the last while, or of the last time at all; nil is none.
func (o *otherClock) best() *reading {
	if len(o.readings) == 0 {
		return nil
	}
	return &o.readings[0]
}

// around returns how far the clock is ahead, and how far that may be off, as in PeerStatus.
func (o *otherClock) around() (ahead, within time.Duration) {
	switch r := o.best(); {
	case r == nil:
		return 0, -1
	case r.width() >= unbounded:
		return r.low, -1
	default:
		return r.low + r.width()/2, r.width() / 2
	}
}

// agrees reports whether another site agrees with a jump of this one's machine. It does where the jump leads to that site's machine: sites that
// were all set right at once, each holding its own, go by none of their machines, and would never agree else. Or where it leads nearer to what
// that site goes by, and not ahead of that: who is behind is kept from nothing, who is ahead is.
func (o *otherClock) agrees(jump, most time.Duration) bool {
	clock := *o.best()
	machine := reading{low: clock.low + o.jump, high: clock.high + o.jump}
	nearer := func(r reading) bool { return jump > 0 && r.low > jump/2 || jump < 0 && r.high < jump/2 }
	return nearer(machine) && machine.low <= jump+most && machine.high >= jump-most ||
		nearer(clock) && clock.high >= jump-most
}

// take takes another reading.
func (o *otherClock) take(r reading, c *Config) {
	if best := o.best(); best != nil && (r.low > best.high || r.high < best.low) {
		o.readings = nil // they are of another clock
	}
	if last := o.last; last != nil && (r.low-last.high > c.MaxStray || last.low-r.high > c.MaxStray) {
		o.moved = true // ahead also where it has not answered, for no delay makes it look so
	}
	if r.width() < unbounded {
		if r.low <= c.MaxStray && r.high >= -c.MaxStray {
			o.moved = false
		}
		kept := r
		o.last = &kept
	}
	for n := len(o.readings); n > 0 && o.readings[n-1].width() >= r.width(); n-- {
		o.readings = o.readings[:n-1]
	}
	for len(o.readings) > 0 && o.readings[0].at < r.at-c.Suspect {
		o.readings = o.readings[1:]
	}
	o.readings = append(o.readings, r)
}

// shift takes that this site's clock has moved.
func (o *otherClock) shift(by time.Duration) {
	for i := range o.readings {
		o.readings[i].shift(by)
	}
	if o.last != nil {
		o.last.shift(by)
	}
}

// read takes what a site says of its clock.
func (c *Core) read(now Instant, p *peer, in *Heartbeat) {
	low := min(max(in.Wall.Sub(now.Wall), -unbounded/2), unbounded/2) // of more than 36 years
	r := reading{low: low, high: low + unbounded, at: now.Mono}
	// An answer to what was said long ago is told by that site's clock for too long a time to be measured with.
	if at, e, ok := c.echoed(now, in); ok && e.After <= 2*c.cfg.Heartbeat && now.Mono-at >= e.After {
		r.high = low + now.Mono - at - e.After
	}
	p.clock.jump = in.Jump
	p.clock.take(r, &c.cfg)
}

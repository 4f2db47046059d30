package pebblestore

import (
	"sync"
	"time"
)

// crowd is where subscribers wait for the log to grow.
//
// They sit in rows. When the log grows, the first row is called at once; the rows behind it follow one after the other, at a
// pace that leaves the processors to those who append. Calling all at once is the simple way: with a thousand subscribers,
// each group commit put a thousand goroutines before the sequencer, and the rate of appends fell by nine tenths. So the wait
// of a subscriber is about rowPace for each rowSeats others, 0.16 s among 5,000, and what has come meanwhile comes together.
type crowd struct {
	mu      sync.Mutex // guards what follows
	durable uint64     // lsn
	rows    []*row     // in the order in which they are called
	// calling: timer will call the next row.
	calling bool
	timer   *time.Timer
}

// row is subscribers who wait for the log to grow beyond the same lsn.
type row struct {
	since  uint64
	seats  int           // that are taken
	called chan struct{} // closed when they are called
}

const (
	rowSeats = 64
	// rowPace is how long a row is ahead of the next. It takes the processors a tenth of that to serve one.
	rowPace = 2 * time.Millisecond
)

func newCrowd(durable uint64) *crowd {
	c := &crowd{durable: durable}
	c.timer = time.AfterFunc(time.Hour, c.callNext)
	c.timer.Stop()
	return c
}

// sit takes a seat for somebody who has seen everything up to an lsn; nil when the log goes on already. Whoever gets up
// without having been called must say so to leave.
func (c *crowd) sit(lsn uint64) *row {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.durable > lsn {
		return nil
	}
	n := len(c.rows)
	if n == 0 || c.rows[n-1].since != c.durable || c.rows[n-1].seats == rowSeats {
		c.rows = append(c.rows, &row{since: c.durable, called: make(chan struct{})})
		n++
	}
	r := c.rows[n-1]
	r.seats++
	return r
}

// leave frees a seat.
func (c *crowd) leave(r *row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.seats--
}

// grow calls the first row, and has the others follow. The log is durable up to the lsn.
func (c *crowd) grow(durable uint64) {
	c.mu.Lock()
	c.durable = durable
	var r *row
	if !c.calling {
		r = c.next()
	}
	c.mu.Unlock()
	if r != nil {
		close(r.called)
	}
}

func (c *crowd) callNext() {
	c.mu.Lock()
	r := c.next()
	c.mu.Unlock()
	if r != nil {
		close(r.called)
	}
}

// next takes the row that is to be called now, if there is one, and sees to those behind it. REQUIRES: mu is held.
func (c *crowd) next() *row {
	due := func() bool { return len(c.rows) > 0 && c.rows[0].since < c.durable }
	c.calling = false
	for due() {
		r := c.rows[0]
		c.rows[0] = nil
		c.rows = c.rows[1:]
		if r.seats == 0 {
			continue
		}
		if due() {
			c.calling = true
			c.timer.Reset(rowPace)
		}
		return r
	}
	return nil
}

// close ends the calling. Those who wait are told by others.
func (c *crowd) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
}

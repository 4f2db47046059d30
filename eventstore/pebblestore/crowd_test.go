package pebblestore

import (
	"testing"
	"time"
)

// A row whose subscribers have all gone is passed over.
func TestRowBehindAnEmptyOneIsCalled(t *testing.T) {
	c := newCrowd(0)
	defer c.close()
	var gone []*row
	for range rowSeats {
		gone = append(gone, c.sit(0))
	}
	behind := c.sit(0)
	if behind == gone[0] {
		t.Fatalf("more than %d sit in one row", rowSeats)
	}
	for _, r := range gone {
		c.leave(r)
	}
	c.grow(1)
	select {
	case <-behind.called:
	case <-time.After(time.Minute):
		t.Error("the row behind an empty one was not called")
	}
}

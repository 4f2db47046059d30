package pebblestore

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What goes on and on is said once a minute; other things are said beside it, and memory is bounded however many there are.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r repeats
		said := 0
		for range 600 { // ten minutes
			if r.first("a table is damaged") {
				said++
			}
			time.Sleep(time.Second)
		}
		if said != 10 || !r.first("another") {
			t.Errorf("in ten minutes it was said %d times", said)
		}
		for i := range 3 * maxRepeats {
			r.first(fmt.Sprint(i))
		}
		if len(r.said) > maxRepeats {
			t.Errorf("%d things are remembered", len(r.said))
		}
	})
}

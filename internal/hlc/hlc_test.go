package hlc

import (
	"sync"
	"testing"
	"time"
)

func TestNeverTwiceNeverBack(t *testing.T) {
	wall := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	c := New(func() time.Time { return wall })
	first := c.Now()
	if first.Time() != wall || first.Logical() != 0 {
		t.Errorf("first reading is %s at %s, want %s", first, first.Time(), wall)
	}
	second := c.Now()
	wall = wall.Add(-time.Hour)
	third := c.Now()
	wall = wall.Add(2 * time.Hour)
	fourth := c.Now()
	if second <= first || third <= second || fourth <= third || fourth.Time() != wall {
		t.Errorf("readings %s, %s, %s (an hour back), %s (an hour on)", first, second, third, fourth)
	}
	future := At(wall.Add(time.Minute))
	c.Observe(future)
	if after := c.Now(); after <= future {
		t.Errorf("reading after one of the future is %s, not after %s", after, future)
	}
	c.Observe(first)
	if after := c.Now(); after <= future {
		t.Errorf("an old reading took the clock back to %s", after)
	}
}

// Readings that are taken together follow each other and are given to nobody else, beyond the end of a millisecond too.
func TestReadingsTakenTogether(t *testing.T) {
	wall := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	c := New(func() time.Time { return wall })
	before := c.Now()
	if c.Wall() != before {
		t.Errorf("the wall clock reads %s, want %s", c.Wall(), before)
	}
	const n = 100_000
	first := c.Take(n)
	if first != before+1 {
		t.Errorf("the first of many is %s, want the one behind %s", first, before)
	}
	if after := c.Now(); after != first+n {
		t.Errorf("behind %d readings from %s on comes %s, want %s", n, first, after, first+n)
	}
	wall = wall.Add(time.Hour)
	if first := c.Take(2); first != At(wall) || c.Now() != first+2 {
		t.Errorf("two readings an hour later begin with %s, want %s", first, At(wall))
	}
}

func TestConcurrentReadingsDiffer(t *testing.T) {
	c := New(nil)
	var mu sync.Mutex
	seen := map[Timestamp]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				now := c.Now()
				mu.Lock()
				if seen[now] {
					t.Errorf("%s was given twice", now)
				}
				seen[now] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// What is only shown binds nobody: a clock that was wrong gives right times again.
func TestShownBindsNobody(t *testing.T) {
	wall := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	c := New(func() time.Time { return wall })
	first := c.Now()
	wall = wall.Add(time.Hour)
	if shown := c.Shown(); shown != At(wall) {
		t.Errorf("the clock shows %s, want %s", shown, At(wall))
	}
	wall = wall.Add(-time.Hour)
	if shown, next := c.Shown(), c.Now(); shown != first || next != first+1 {
		t.Errorf("set right again, the clock shows %s and gives %s, want %s and the next", shown, next, first)
	}
}

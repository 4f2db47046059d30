package replication

import (
	"testing"
	"time"
)

// The lag of a log is how old its last event was when it came; it grows while events are missing, and nothing is said of one that came
// long ago.
func TestLagOfALog(t *testing.T) {
	last := came{age: 3 * time.Millisecond}
	for _, c := range []struct {
		after   time.Duration
		missing bool
		want    time.Duration
	}{
		{time.Second, false, 3 * time.Millisecond},
		{time.Minute, false, 0},
		{time.Millisecond, true, 4 * time.Millisecond},
		{time.Minute, true, time.Minute + 3*time.Millisecond},
	} {
		if lag := last.lag(c.after, c.missing); lag != c.want {
			t.Errorf("%s after it came, missing %t: %s, want %s", c.after, c.missing, lag, c.want)
		}
	}
}

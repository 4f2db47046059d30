package server_test

import (
	"slices"
	"time"
)

// percentile returns the time that p of 100 are not longer than.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)]
}

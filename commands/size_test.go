package commands

import (
	"strings"
	"testing"
)

func TestSizeOfIsOfTheRightOrder(t *testing.T) {
	type line struct {
		Code  string
		Units int
	}
	type state struct {
		Lines []line
		Index map[string]*line
		Next  *state
	}
	big := state{Index: map[string]*line{}}
	for range 20_000 {
		big.Lines = append(big.Lines, line{Code: "85123A"})
	}
	cycle := &state{}
	cycle.Next = cycle
	for name, c := range map[string]struct {
		v        any
		min, max int
	}{
		"nil":    {nil, 0, 0},
		"number": {7, 8, 8},
		"text":   {strings.Repeat("x", 1000), 1000, 1100},
		"list":   {big, 20_000 * (24 + 6), 20_000 * (24 + 6) * 2},
		"map":    {map[string][]byte{"a": make([]byte, 500)}, 500, 700},
		"cycle":  {cycle, 1, 10_000},
		"flat":   {make([]int64, 1000), 8000, 8100},
	} {
		if got := sizeOf(c.v); got < c.min || got > c.max {
			t.Errorf("%s: estimated at %d bytes, want %d to %d", name, got, c.min, c.max)
		}
	}
}

package main

import "testing"

func TestMemoryIsTrimmedOnceAfterABurst(t *testing.T) {
	const mb = 1 << 20
	var tr trimmer
	for _, step := range []struct {
		what string
		heap heap
		due  bool
	}{
		{"a burst goes on", heap{allocated: 900 * mb, resident: 500 * mb, live: 150 * mb}, false},
		{"it is over", heap{allocated: 901 * mb, resident: 500 * mb, live: 150 * mb}, true},
		{"what is left is fragmented", heap{allocated: 902 * mb, resident: 300 * mb, live: 150 * mb}, false},
		{"a second burst", heap{allocated: 1500 * mb, resident: 500 * mb, live: 150 * mb}, false},
		{"it is over too", heap{allocated: 1501 * mb, resident: 500 * mb, live: 150 * mb}, true},
		{"little is held", heap{allocated: 1516 * mb, resident: 200 * mb, live: 150 * mb}, false},
	} {
		if got := tr.due(step.heap); got != step.due {
			t.Errorf("%s: due = %t, want %t", step.what, got, step.due)
		}
	}
}

func TestHeapIsRead(t *testing.T) {
	if h := readHeap(); h.allocated == 0 || h.resident == 0 || h.resident > 1<<40 {
		t.Errorf("heap = %+v", h)
	}
}

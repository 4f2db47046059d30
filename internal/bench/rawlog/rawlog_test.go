package rawlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestRecordsAreInTheFileWhenAppendReturns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw")
	l, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				record := fmt.Appendf(nil, "%d/%d\n", w, i)
				if err := l.Append(record); err != nil {
					t.Errorf("append: %v", err)
					return
				}
				b, err := os.ReadFile(path)
				if err != nil || !bytes.Contains(b, record) {
					t.Errorf("record %q is not in the file after Append (%v)", record, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append([]byte("late")); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v, want %v", err, ErrClosed)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	slices.SortFunc(lines, bytes.Compare)
	if got := len(slices.CompactFunc(lines, bytes.Equal)); got != 400 {
		t.Fatalf("the file has %d different records, want 400", got)
	}
}

package replication_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tributary-es/tributary/replication"
)

func TestProgressFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "progress.json")
	f := replication.NewProgressFile(path)
	if at, err := f.Load("shop"); at != 0 || err != nil {
		t.Errorf("before anything was saved it is %d, %v; want 0", at, err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := f.Save("shop-"+strconv.Itoa(i), int64(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f = replication.NewProgressFile(path)
	for i := range 20 {
		if at, err := f.Load("shop-" + strconv.Itoa(i)); at != int64(i) || err != nil {
			t.Errorf("shop-%d is at %d, %v", i, at, err)
		}
	}
	for _, damaged := range []string{"", "null", `{"shop-1": 1`, `{"shop-1": "1"}`} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := f.Load("shop-1")
		for _, err := range []error{err, f.Save("shop-1", 2)} {
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("of %q it says %v; want an error that names the file", damaged, err)
			}
		}
		if body, err := os.ReadFile(path); string(body) != damaged || err != nil {
			t.Errorf("it has made %q of %q, %v", body, damaged, err)
		}
	}
	if err := replication.NewProgressFile(filepath.Join(path, "none", "p.json")).Save("shop", 1); err == nil {
		t.Error("it was saved where no folder is")
	}
}

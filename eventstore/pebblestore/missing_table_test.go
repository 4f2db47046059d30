package pebblestore

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// TestMissingTable opens logs of which a table was deleted or cut short: the error matches ErrCorrupt, names the file and says
// what to do.
func TestMissingTable(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, fs vfs.FS, path string){
		"deleted": func(t *testing.T, fs vfs.FS, path string) {
			if err := fs.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"cut short": truncate,
	} {
		t.Run(name, func(t *testing.T) {
			fs := written(t, 2000, Options{})
			names, err := fs.List("data/store/log")
			if err != nil {
				t.Fatal(err)
			}
			table := ""
			for _, n := range names {
				if strings.HasSuffix(n, ".sst") {
					table = n
				}
			}
			damage(t, fs, "data/store/log/"+table)
			s, err := Open("data/store", &Options{FS: fs, Logger: quietLog})
			if err == nil {
				t.Fatal("a log opens that lacks a table", s.Close())
			}
			if !errors.Is(err, eventstore.ErrCorrupt) || !containsAll(err.Error(), []string{strings.TrimSuffix(table, ".sst"), "data/store/log", "restore --from-kafka"}) ||
				strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want ErrCorrupt in one line with table, folder and what to do", err)
			}
		})
	}
}

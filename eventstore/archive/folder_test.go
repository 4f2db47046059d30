package archive_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/eventstore/archive"
	"github.com/tributary-es/tributary/eventstore/archive/archivetest"
)

// TestFolder shows that the bucket in a folder is a Bucket.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	archivetest.Bucket(t, archive.NewFolder(dir))
	if err := os.WriteFile(filepath.Join(dir, "x.part"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for o, err := range archive.NewFolder(dir).List(context.Background(), "") {
		t.Errorf("listed %v, %v although nothing is finished", o, err)
	}
}

package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tributary-es/tributary/node"
)

// The server of a folder is found by the folder itself, also through a link and by another name, and never by a copy of it:
// a command on the copy would act on the original.
func TestServerIsFoundByItsFolderAlone(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	shopServer(t, data, node.Shop())
	copied, linked, moved := filepath.Join(dir, "copied"), filepath.Join(dir, "linked"), filepath.Join(dir, "moved")
	if err := errors.Join(os.CopyFS(copied, os.DirFS(data)), os.Symlink(data, linked)); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]bool{data: true, data + "/.": true, linked: true, copied: false} {
		if b, found, err := node.FindServer(t.Context(), folder); err != nil || found != want {
			t.Errorf("%s: found %t (%+v), %v; want %t", folder, found, b, err, want)
		}
	}
	// A copy in the place of the original is another folder still.
	if err := errors.Join(os.Rename(data, moved), os.Rename(copied, data)); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]bool{moved: true, data: false} {
		if b, found, err := node.FindServer(t.Context(), folder); err != nil || found != want {
			t.Errorf("%s after the folders were moved: found %t (%+v), %v; want %t", folder, found, b, err, want)
		}
	}
	if err := errors.Join(os.Rename(data, copied), os.Rename(moved, data)); err != nil {
		t.Fatal(err)
	}
	// The copy has a server of its own, and both are told apart.
	shopServer(t, copied, node.Shop())
	first, _, err := node.FindServer(t.Context(), data)
	second, found, err2 := node.FindServer(t.Context(), copied)
	if err != nil || err2 != nil || !found || first.GRPC == second.GRPC {
		t.Errorf("the original is served by %+v (%v), the copy by %+v (%v)", first, err, second, err2)
	}
	// Who names a folder without a server is told of those beside it.
	beside, err := node.ServersBeside(t.Context(), filepath.Join(dir, "other"))
	if want := []string{copied, data, linked}; err != nil || !slices.Equal(beside, want) {
		t.Errorf("servers beside: %q, %v; want %q", beside, err, want)
	}
}

// Who is interrupted while he looks is not told that no server runs, for he would open the folder then.
func TestInterruptedSearchForAServer(t *testing.T) {
	data := t.TempDir()
	shopServer(t, data, node.Shop())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, found, err := node.FindServer(ctx, data); !errors.Is(err, context.Canceled) {
		t.Errorf("found %t (%+v), %v; want the context's error", found, b, err)
	}
}

// Package archivetest is the suite that every archive.Bucket passes.
package archivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/tributary-es/tributary/eventstore/archive"
)

// Bucket goes through what a Bucket promises. REQUIRES: it is empty; it is left empty.
func Bucket(t *testing.T, b archive.Bucket) {
	t.Helper()
	ctx := context.Background()
	list := func(prefix string) (names string) {
		for o, err := range b.List(ctx, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			names += fmt.Sprintf("%s %d;", o.Name, o.Bytes)
		}
		return names
	}
	if got := list(""); got != "" {
		t.Errorf("a new bucket lists %s", got)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	names := []string{"a/2", "a/1", "b", "a/1.json"}
	for _, name := range names {
		if err := b.Put(ctx, name, large); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(ctx, "a/1", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, want := list("a/"), "a/1 3;a/1.json 4194304;a/2 4194304;"; got != want {
		t.Errorf("listed %s, want %s", got, want)
	}
	for _, err := range b.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	p := make([]byte, 1000)
	if err := b.ReadAt(ctx, "a/2", p, 1<<20); err != nil || !bytes.Equal(p, large[1<<20:][:1000]) {
		t.Errorf("read %.20q, %v", p, err)
	}
	if err := b.ReadAt(ctx, "a/1", p[:2], 1); err != nil || string(p[:2]) != "ew" {
		t.Errorf("read %q, %v", p[:2], err)
	}
	for _, offset := range []int64{1, 3, 100} {
		if err := b.ReadAt(ctx, "a/1", p[:3], offset); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read beyond the end at %d: %v", offset, err)
		}
	}
	if err := b.ReadAt(ctx, "a/3", p, 0); !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("read what is not there: %v", err)
	}
	for _, name := range append(names, "a/1") { // one of them twice
		if err := b.Remove(ctx, name); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	if got := list(""); got != "" {
		t.Errorf("what was removed is still listed: %s", got)
	}
}

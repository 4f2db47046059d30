package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// Who asks a folder without data and without a server is to say which server is meant, by --data or --addr.
func TestNoServerIsNamed(t *testing.T) {
	data := filepath.Join(t.TempDir(), "none here")
	for _, verb := range []string{"sites status", "events read", "events tail"} {
		var out, errOut bytes.Buffer
		exit := run(t.Context(), append(strings.Fields(verb), "--data", data), &out, &errOut)
		for _, want := range []string{"no server runs on " + data, "--data FOLDER", "--addr HOST:PORT", "--data '" + data + "'"} {
			if exit != exitInput || !strings.Contains(errOut.String(), want) {
				t.Errorf("%s: exit code %d, %q; want %q", verb, exit, errOut.String(), want)
			}
		}
	}
}

func TestPasted(t *testing.T) {
	for arg, want := range map[string]string{"/data/bj-1": "/data/bj-1", "": "''", "it's here": `'it'\''s here'`, "/données": "/données", "a;b": "'a;b'"} {
		if got := pasted(arg); got != want {
			t.Errorf("%q is pasted as %s, want %s", arg, got, want)
		}
	}
}

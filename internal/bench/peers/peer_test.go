package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test program be the server of an embedded peer, as the real one can.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// buildTributary builds the server, so that it is there to be looked at.
func buildTributary(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tributary")
	out, err := exec.Command("go", "-C", "../../..", "build", "-o", program, "./cmd/tributary").CombinedOutput()
	if err != nil {
		t.Fatalf("build the server: %v: %s", err, out)
	}
	old := tributaryProgram
	tributaryProgram = program
	t.Cleanup(func() { tributaryProgram = old })
}

// TestPeersKeepTheRules runs every peer that the machine has: what they are measured at must be the same work.
func TestPeersKeepTheRules(t *testing.T) {
	buildTributary(t)
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) {
			ctx := t.Context()
			dir := publicFolder(t)
			peer, version, err := kind.Start(ctx, dir)
			if errors.Is(err, errMissing) {
				t.Logf("%s is not looked at, %v", kind.Name, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := peer.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			if version == "" {
				t.Error("the peer has no version")
			}
			payload := noise(512, 1)
			first, err := peer.Append(ctx, "a", Place{}, [][]byte{payload})
			if err != nil {
				t.Fatalf("append to a new stream: %v", err)
			}
			if _, err := peer.Append(ctx, "a", Place{}, [][]byte{payload}); err == nil {
				t.Error("an append to a stream that was expected to be new, and is not, was taken")
			}
			second, err := peer.Append(ctx, "a", first, [][]byte{payload, payload, payload})
			if err != nil {
				t.Fatalf("append of three: %v", err)
			}
			if _, err := peer.Append(ctx, "a", first, [][]byte{payload}); err == nil {
				t.Error("an append at a version that the stream has left was taken")
			}
			if second.Version != 4 {
				t.Errorf("the stream is at version %d, want 4", second.Version)
			}
			if _, err := peer.Append(ctx, "b", Place{}, [][]byte{payload}); err != nil {
				t.Fatalf("append to another stream: %v", err)
			}
			if n, err := peer.Load(ctx, "a"); n != 4 || err != nil {
				t.Errorf("load gave %d events (%v), want 4", n, err)
			}
			if _, lacks := kind.Lacks["read-all"]; lacks {
				return
			}
			if n, err := peer.ReadAll(ctx); n != 5 || err != nil {
				t.Errorf("the whole log gave %d events (%v), want 5", n, err)
			}
		})
	}
}

// publicFolder returns a folder that other accounts can reach too: one of the servers refuses to be root.
func publicFolder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove folder: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTable(t *testing.T) {
	rows := []Row{
		{Peer: "one", Version: "1.2", Work: "append-1", Figures: Figures{Rate: 1234, P99Micros: 2500}},
		{Peer: "one", Version: "1.2", Work: "read-all", Figures: Figures{Rate: 1_500_000}},
		{Peer: "two", Version: "3", Work: "append-1", Figures: Figures{Rate: 999, P99Micros: 100}},
	}
	wanted, err := chosenWorks("append-1,read-all")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	printTable(&b, rows, wanted)
	want := []string{
		"| peer | append-1 | read-all |", "|---|---|---|",
		"| one 1.2 | 1.2 k (2.5) | 1.50 M |", "| two 3 | 999 (0.1) | – |", "",
	}
	if got := strings.Split(b.String(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	if _, err := chosen("redis,nothing"); err == nil {
		t.Error("an unknown peer was taken")
	}
	if _, err := chosenWorks("nothing"); err == nil {
		t.Error("an unknown work was taken")
	}
}

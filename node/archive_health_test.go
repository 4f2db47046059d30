package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// Health names an archive that is away, damage in it and a place that nothing can be put to, each with what helps, and is
// silent when all is well again. None keeps the node from starting.
func TestArchiveHealth(t *testing.T) {
	top := t.TempDir()
	folder, blocked := filepath.Join(top, "archive"), filepath.Join(top, "file", "archive")
	n, err := Open(t.Context(), Config{
		Data: t.TempDir(), Kafka: "off", ClickHouse: "off", HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Domains: []Domain{{Name: "none"}},
		ArchiveTo: blocked, ArchiveAfter: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	problem := func(location string) string {
		for _, d := range n.health(t.Context()) {
			if d.Name == "archive" && d.Mode == location {
				if d.Required || d.Up != (d.Problem == "") {
					t.Errorf("health says %+v", d)
				}
				return d.Problem
			}
		}
		return ""
	}
	if err := os.WriteFile(filepath.Dir(blocked), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n.probeArchive(t.Context()) || !strings.Contains(problem(blocked), "nothing can be archived there") {
		t.Errorf("a place that cannot be made is fit, and health says %q", problem(blocked))
	}
	if err := os.Remove(filepath.Dir(blocked)); err != nil {
		t.Fatal(err)
	}
	if !n.probeArchive(t.Context()) || problem(blocked) != "" {
		t.Errorf("a place that can be made is not fit: %q", problem(blocked))
	}
	for range 3 {
		_, err := n.local.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.local.Archive(t.Context(), pebblestore.ArchiveOptions{To: folder}); err != nil {
		t.Fatal(err)
	}
	look := func() string {
		n.local.LookAtArchives(t.Context())
		return problem(folder)
	}
	if p := look(); p != "" {
		t.Errorf("health says %q of an archive that is there", p)
	}
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	if p := look(); !strings.Contains(p, ".segment at "+folder) || !strings.Contains(p, "commands are taken") {
		t.Errorf("health says %q of an archive that is away", p)
	}
	if err := os.Rename(folder+"-away", folder); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(folder, n.local.Archived()[0].Name)
	good, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{good[0] ^ 1}, good[1:]...)
	if err := os.WriteFile(segment, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := n.local.VerifyArchive(t.Context(), nil); err != nil || len(c.Faults) == 0 {
		t.Fatalf("verify of a damaged archive: %v, %v", c.Faults, err)
	}
	if p := look(); !strings.Contains(p, filepath.Base(segment)+" at "+folder) || !strings.Contains(p, putBack) || strings.Contains(p, "scrub") {
		t.Errorf("health says %q of an archive that is damaged", p)
	}
	if err := os.WriteFile(segment, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if p := look(); p != "" {
		t.Errorf("health says %q of an archive whose segment was put back", p)
	}
}

package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// Alarms come back as they were kept; a file that cannot be read is told of, and keeps nothing from starting.
func TestAlarmsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), alarmsFile)
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	if all := lastAlarms(path, log); len(all) > 0 || said.Len() > 0 {
		t.Errorf("before the first alarm: %v, %s", all, said.String())
	}
	want := []replication.Alarm{
		{Kind: replication.AlarmFork, Log: eventstore.LogID{Site: "sh", Incarnation: 2, Shard: 1}, Site: "sz", Text: "two contents", At: time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)},
		{Kind: replication.AlarmLost, Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Text: "it lacks some", At: time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)},
	}
	if err := keepAlarms(path, want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, lastAlarms(path, log)); diff != "" || said.Len() > 0 {
		t.Errorf("kept alarms (-want +got):\n%s%s", diff, said.String())
	}
	if err := os.WriteFile(path, []byte(`[{"kind":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := lastAlarms(path, log); len(all) > 0 || !strings.Contains(said.String(), path) {
		t.Errorf("of a damaged file: %v, %s", all, said.String())
	}
}

package kafkalog_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/testenv"
)

// The log's beginning was dropped for good. The topic has it still, and what the log has is compared with it; a topic that is made
// anew begins where the log does.
func TestMirrorOfALogWhoseBeginningWasDropped(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		ctx := context.Background()
		s, err := pebblestore.Open(filepath.Join(t.TempDir(), "store"), &pebblestore.Options{Site: testenv.Unique(t), TailBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := runMirror(t, s, fast(addr))
		fill(t, s, 300)
		waitFor(t, m.Mirror, s)
		if _, err := s.Archive(ctx, pebblestore.ArchiveOptions{To: t.TempDir(), SegmentBytes: 1}); err != nil {
			t.Fatal(err)
		}
		before := eventstore.Position{Incarnation: 1, LSN: 201}
		if report, err := s.Drop(ctx, pebblestore.DropOptions{Before: before}); err != nil || report.Events == 0 {
			t.Fatalf("dropped %+v, %v", report, err)
		}
		fill(t, s, 20)
		waitFor(t, m.Mirror, s)
		dropped := s.First().LSN - 1
		if dropped < 190 || dropped > 200 {
			t.Fatalf("%d events were dropped of those before %s", dropped, before)
		}
		topic := topicOf(t, s)
		if report := audit(t, addr, s, topic); !report.OK() || report.Records != 320-dropped || report.Dropped != dropped {
			t.Errorf("of a topic that has all, report %+v", report)
		}

		deleteTopic(t, addr, topic)
		fill(t, s, 5)
		waitFor(t, m.Mirror, s)
		var report kafkalog.AuditReport
		eventually(t, "the topic has what the log has", func() bool {
			o := fast(addr)
			o.Topic = topic
			report, err = kafkalog.Audit(ctx, s, o, nil)
			return err == nil && report.OK()
		})
		if report.Records != 325-dropped || report.Dropped != 0 {
			t.Errorf("of a topic that was made anew, report %+v", report)
		}
		m.stop() // and it goes on so
		fill(t, s, 5)
		m = runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		if report := audit(t, addr, s, topic); !report.OK() || report.Records != 330-dropped {
			t.Errorf("of a topic that was gone on with, report %+v", report)
		}
		m.stop()
	})
}

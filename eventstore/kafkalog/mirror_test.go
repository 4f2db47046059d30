package kafkalog_test

import (
	"testing"

	"github.com/tributary-es/tributary/eventstore/kafkalog"
)

// TestMirrorCopiesTheLog shows M1.
func TestMirrorCopiesTheLog(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 3000)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		fill(t, s, 500)
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)

		status := m.Status()
		if status.State != kafkalog.StateMirroring || status.Mirrored.Seq != 3500 || status.Events != 3500 || status.Sessions != 1 || status.Err != nil {
			t.Errorf("status %+v", status)
		}
		if err := m.end(); err != nil {
			t.Fatal(err)
		}
		if status := m.Status(); status.State != kafkalog.StateStopped {
			t.Errorf("state %s after Run has ended", status.State)
		}
		settings := topicSettings(t, addr, topicOf(t, s))
		for name, want := range map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": "8388608"} {
			if settings[name] != want {
				t.Errorf("topic's %s is %q, should be %q", name, settings[name], want)
			}
		}
	})
}

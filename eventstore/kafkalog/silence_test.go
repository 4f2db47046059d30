package kafkalog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
)

// Brokers that hang are said to be silent long before a request to them is given up, and no more when they answer; what is to be
// in the topic is refused meanwhile.
func TestSilentBrokersAreNoticed(t *testing.T) {
	broker := startBroker(t)
	s := newStore(t)
	o := fast(broker.Addr())
	o.RequestTimeout, o.SilentAfter = time.Minute, 500*time.Millisecond
	m := runMirror(t, s, o)
	if err := m.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := m.Status(); !status.Silent.IsZero() || m.Available() != nil {
		t.Errorf("a broker that answers: %+v, %v", status, m.Available())
	}
	paused := time.Now()
	if err := broker.Pause(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mirror notices", func() bool { return !m.Status().Silent.IsZero() })
	t.Logf("it was noticed after %s", time.Since(paused).Round(time.Millisecond))
	status := m.Status()
	if status.State != kafkalog.StateMirroring || status.Err == nil || !strings.Contains(status.Err.Error(), "do not answer since") {
		t.Errorf("with a broker that hangs: %+v", status)
	}
	before := head(t, s).Seq
	if _, err := withMirror(s, m.Mirror).Append(context.Background(), inTopic(1)); !errors.Is(err, eventstore.ErrUnavailable) || head(t, s).Seq != before {
		t.Errorf("an append that is to be in the topic: %v, and the log went from %d to %d", err, before, head(t, s).Seq)
	}
	if err := broker.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broker answers again", func() bool { return m.Status().Silent.IsZero() && m.Status().Err == nil && m.Available() == nil })
}

package node

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore/kafkalog"
)

// Kafka is down when it does not answer, as when it cannot be reached; a weak topic alone is no outage.
func TestKafkaHealth(t *testing.T) {
	silent := errors.New("the brokers do not answer since 10:00")
	for name, tt := range map[string]struct {
		status kafkalog.Status
		up     bool
		says   string
	}{
		"mirroring":     {kafkalog.Status{State: kafkalog.StateMirroring}, true, ""},
		"a weak topic":  {kafkalog.Status{State: kafkalog.StateMirroring, TopicFaults: []string{"one replica"}}, true, "one replica"},
		"silent":        {kafkalog.Status{State: kafkalog.StateMirroring, Silent: time.Now(), Err: silent}, false, "do not answer since"},
		"not connected": {kafkalog.Status{State: kafkalog.StateConnecting}, false, "not connected yet"},
	} {
		if d := kafkaHealth("kafka", tt.status, Embedded); d.Name != "kafka" || d.Up != tt.up || !strings.Contains(d.Problem, tt.says) || d.Up && tt.says == "" && d.Problem != "" {
			t.Errorf("%s: %+v, want up %v and %q", name, d, tt.up, tt.says)
		}
	}
}

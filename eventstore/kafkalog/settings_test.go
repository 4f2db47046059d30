package kafkalog

import (
	"context"
	"testing"
	"time"
)

// Brokers that do not tell a topic's settings are a fault; who has ended before they could is not.
func TestSettingsThatNobodyWaitsFor(t *testing.T) {
	c := connect(&Options{Brokers: []string{"127.0.0.1:1"}, RequestTimeout: time.Second})
	defer c.close()
	if faults := c.checkSettings(t.Context(), nil, 1); len(faults) != 1 {
		t.Errorf("brokers that are away: %q, want one fault", faults)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if faults := c.checkSettings(over, []string{"known"}, 1); len(faults) != 1 {
		t.Errorf("a context that is over: %q, want what was known before", faults)
	}
}

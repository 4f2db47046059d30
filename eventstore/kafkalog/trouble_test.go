package kafkalog_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/internal/reliability"
)

// counted counts the commands that a store takes, and those that it does not.
type counted struct {
	eventstore.Appender
	taken, failed atomic.Int64
}

// Append implements eventstore.Appender.
func (c *counted) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, err := c.Appender.Append(ctx, r)
	switch {
	case err == nil:
		c.taken.Add(1)
	case !errors.Is(err, context.Canceled):
		c.failed.Add(1)
	}
	return receipt, err
}

// TestKafkaInTrouble kills the broker, restarts it, removes the topic and cuts it, while local commands go on; in the end
// the topic has everything, and what it lacked meanwhile was named. It is T8 of docs/reliability.md, and shows M1 and M5.
func TestKafkaInTrouble(t *testing.T) {
	kills, cuts, pause := 2, 2, time.Millisecond
	if *reliability.Long {
		// Thirty starts of a broker take minutes, and each cut publishes the whole log again: at full load that is half a
		// million records twenty times.
		kills, cuts, pause = 30, 20, 20*time.Millisecond
	}
	onServers(t, func(t *testing.T, broker server) {
		s := newStore(t)
		topic := topicOf(t, s)
		commands := &counted{Appender: s}
		result := reliability.Result{Test: "T8", What: "killed, restarted, topic removed, topic cut: " + t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]}
		stop := loadEvery(t, commands, pause)
		m := runMirror(t, s, fast(broker.Addr()))
		for range kills {
			progress(t, m.Mirror, 200)
			broker.Kill()
			if err := broker.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			result.Cycles++
		}
		progress(t, m.Mirror, 200)
		deleteTopic(t, broker.Addr(), topic)
		result.Cycles++
		stop()
		fill(t, commands, 10) // what is written shows the mirror that the topic is gone
		waitFor(t, m.Mirror, s)
		complete(t, broker.Addr(), s, m.Mirror)

		var took []time.Duration
		for range cuts {
			fill(t, commands, 100)
			waitFor(t, m.Mirror, s)
			cutTopic(t, broker.Addr(), topic, 40)
			began := time.Now()
			report := audit(t, broker.Addr(), s, topic)
			took = append(took, time.Since(began))
			if report.OK() || report.Missing == 0 || len(report.Faults) == 0 {
				result.Violations++
				t.Errorf("records were cut off, and the audit says %+v", report)
			}
			deleteTopic(t, broker.Addr(), topic) // what was cut cannot be put in front: the topic is made anew
			result.Cycles += 2
			fill(t, commands, 10)
			waitFor(t, m.Mirror, s)
			complete(t, broker.Addr(), s, m.Mirror)
		}
		result.Acked = int(commands.taken.Load())
		result.Violations += int(commands.failed.Load())
		result.P50, result.P99 = reliability.Percentiles(took)
		result.Extra = map[string]any{"holes found": len(took), "failed local commands": commands.failed.Load()}
		result.Print(t)
	})
}

// complete wants a topic that was made anew to come to have everything.
func complete(t testing.TB, addr string, s eventstore.Reader, m *kafkalog.Mirror) {
	t.Helper()
	o := fast(addr)
	o.Topic = topicOf(t, s)
	for deadline := time.Now().Add(2 * within); ; {
		report, err := kafkalog.Audit(context.Background(), s, o, nil)
		switch {
		case err == nil && report.OK():
			sameAsStore(t, addr, s)
			return
		case err != nil && !errors.Is(err, eventstore.ErrNotFound) && !errors.Is(err, eventstore.ErrUnavailable):
			t.Fatal(err) // while a broker may not know yet what was made anew, or not lead it yet
		case time.Now().After(deadline):
			t.Fatalf("the topic is not complete: audit %+v, %v; mirror %+v", report, err, m.Status())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

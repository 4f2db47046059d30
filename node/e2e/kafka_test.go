package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// topicEvent is an event as a stranger finds it in the topic, by docs/topic.md alone.
type topicEvent struct {
	seq                        uint64
	stream, kind, position     string
	version                    uint64
	payload                    []byte
	record                     *kgo.Record
	fences, heartbeatsBeforeIt int
}

// readTopic reads a topic from its beginning until it has events up to a seq, perhaps a few more, and wants them dense and
// in order.
func readTopic(t *testing.T, broker, topic string, upTo uint64) []topicEvent {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ClientID("a-stranger"))
	if err != nil {
		t.Fatalf("connect to kafka: %v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var events []topicEvent
	fences, heartbeats := 0, 0
	for uint64(len(events)) < upTo {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read topic %s: %v, with %d of %d events read", topic, err, len(events), upTo)
		}
		for r := range fetches.RecordsAll() {
			switch kind := header(r, "tributary-record"); {
			case kind == "fence":
				fences++
			case kind == "heartbeat":
				heartbeats++
			case header(r, "tributary-dot") != "":
				e, err := strangeEvent(r)
				if err != nil {
					t.Fatalf("topic %s, offset %d: %v", topic, r.Offset, err)
				}
				if want := uint64(len(events) + 1); e.seq != want {
					t.Fatalf("topic %s, offset %d: seq %d where %d was expected", topic, r.Offset, e.seq, want)
				}
				e.fences, e.heartbeatsBeforeIt = fences, heartbeats
				events = append(events, e)
			}
		}
	}
	return events
}

func strangeEvent(r *kgo.Record) (topicEvent, error) {
	e := topicEvent{stream: string(r.Key), kind: header(r, "tributary-type"), position: header(r, "tributary-position"), payload: r.Value, record: r}
	dot := strings.Split(header(r, "tributary-dot"), "/") // shard-00@local/1/42
	if len(dot) != 3 {
		return e, fmt.Errorf("tributary-dot is %q", header(r, "tributary-dot"))
	}
	var err error
	if e.seq, err = strconv.ParseUint(dot[2], 10, 64); err != nil {
		return e, fmt.Errorf("tributary-dot: %w", err)
	}
	if e.version, err = strconv.ParseUint(header(r, "tributary-version"), 10, 64); err != nil {
		return e, fmt.Errorf("tributary-version: %w", err)
	}
	return e, nil
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

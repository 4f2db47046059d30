package kafkalog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// receiveFrom has a store take in all of another one's log, as it comes from there.
func receiveFrom(t *testing.T, to eventstore.Replica, from *memstore.Store) {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range from.ReadLog(context.Background(), head(t, from).ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e.Chain, e.Position = eventstore.Hash{}, eventstore.Position{}
		events = append(events, e)
	}
	if _, err := to.Receive(context.Background(), events); err != nil {
		t.Fatal(err)
	}
}

// dotsIn returns the dots of a topic's events, in order.
func dotsIn(events []foreignEvent) (dots []string) {
	for _, e := range events {
		dots = append(dots, fmt.Sprintf("%d/%d", e.incarnation, e.seq))
	}
	return dots
}

func dots(incarnation, from, to int) (dots []string) {
	for seq := from; seq <= to; seq++ {
		dots = append(dots, fmt.Sprintf("%d/%d", incarnation, seq))
	}
	return dots
}

// TestMirrorLeavesOthersOut shows S37: the topic has the log's own events and no others, however the mirror resumes, and its
// heartbeats say how far the others are applied.
func TestMirrorLeavesOthersOut(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s, other := newStore(t), newStore(t)
		o := fast(addr)
		o.Heartbeat = 10 * time.Millisecond
		fill(t, s, 40)
		fill(t, other, 30)
		receiveFrom(t, s, other)
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		fill(t, s, 20)
		fill(t, other, 30)
		receiveFrom(t, s, other)
		waitFor(t, m.Mirror, s)
		if err := m.end(); err != nil {
			t.Fatal(err)
		}
		fill(t, s, 10)
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		beats := m.Status().Heartbeats
		eventually(t, "a heartbeat at the end", func() bool { return m.Status().Heartbeats > beats })
		events, others := readForeign(t, addr, topicOf(t, s))
		if got, want := dotsIn(events), dots(1, 1, 70); !slices.Equal(got, want) {
			t.Errorf("topic has %s, want %s", got, want)
		}
		applied := fmt.Sprintf("%s/60", head(t, other).ID)
		if !slices.ContainsFunc(keys(others), func(said string) bool { return strings.Contains(said, applied) }) {
			t.Errorf("no heartbeat says that %s is applied: %v", applied, others)
		}
	})
}

func keys(m map[string]int) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// TestMirrorOfALifeThatComesBack shows S37 for a log that lost the end of an earlier life and has it from other sites, behind
// what it has written since: the topic misses none of its events, and has none after one of a later life.
func TestMirrorOfALifeThatComesBack(t *testing.T) {
	addr := openEmbedded(t)
	first := newStore(t)
	fill(t, first, 30)
	m := runMirror(t, first, fast(addr))
	waitFor(t, m.Mirror, first)
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	id := head(t, first).ID
	id.Incarnation++
	second := memstore.New(memstore.Options{LogID: id})
	defer second.Close()
	fill(t, second, 10)
	receiveFrom(t, second, first)
	fill(t, second, 5)
	m = runMirror(t, second, fast(addr))
	waitFor(t, m.Mirror, second)
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	events, _ := readForeign(t, addr, topicOf(t, second))
	if got, want := dotsIn(events), append(dots(1, 1, 30), dots(2, 1, 15)...); !slices.Equal(got, want) {
		t.Errorf("topic has %s, want %s", got, want)
	}

	// And more of the life before comes back later, of which the topic knows nothing.
	fill(t, first, 10)
	receiveFrom(t, second, first)
	fill(t, second, 5)
	m = runMirror(t, second, fast(addr))
	waitFor(t, m.Mirror, second)
	events, _ = readForeign(t, addr, topicOf(t, second))
	if got, want := dotsIn(events), append(dots(1, 1, 30), dots(2, 1, 20)...); !slices.Equal(got, want) {
		t.Errorf("topic has %s, want %s", got, want)
	}
	// Nothing is wrong with that, but with what the present life lacks.
	if r := audit(t, addr, second, topicOf(t, second)); !r.OK() || r.Regained != 10 || r.Records != 50 {
		t.Errorf("the audit says %+v, want 50 records and 10 events that came back", r)
	}
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	fill(t, second, 3)
	if r := audit(t, addr, second, topicOf(t, second)); r.OK() || r.Missing != 3 {
		t.Errorf("the audit says %+v, want 3 events missing", r)
	}
}

// TestAuditOfALifeWithoutItsTopic: a log that lost an earlier life with its disk and topic has it back from other sites. What came
// before it was written again has to be in the topic, what came later does not.
func TestAuditOfALifeWithoutItsTopic(t *testing.T) {
	addr := openEmbedded(t)
	first := newStore(t)
	fill(t, first, 20)
	id := head(t, first).ID
	id.Incarnation += 2
	second := memstore.New(memstore.Options{LogID: id})
	defer second.Close()
	receiveFrom(t, second, first)
	topic := topicOf(t, second)
	fill(t, second, 5)
	fill(t, first, 10)
	receiveFrom(t, second, first)
	m := runMirror(t, second, fast(addr))
	waitFor(t, m.Mirror, second)
	if r := audit(t, addr, second, topic); !r.OK() || r.Records != 25 || r.Regained != 10 {
		t.Errorf("the audit says %+v, want 25 records and 10 events that came back", r)
	}
}

// TestAuditOfALifeAtEarlierPlaces: events of an earlier life come back from another site without those of others that stood before them, so
// that their places are earlier ones than the topic has. That is no change.
func TestAuditOfALifeAtEarlierPlaces(t *testing.T) {
	addr := openEmbedded(t)
	first, other := newStore(t), memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "sh", Incarnation: 1}})
	defer other.Close()
	fill(t, other, 7)
	receiveFrom(t, first, other)
	fill(t, first, 20)
	m := runMirror(t, first, fast(addr))
	waitFor(t, m.Mirror, first)
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	id := head(t, first).ID
	id.Incarnation++
	second := memstore.New(memstore.Options{LogID: id})
	defer second.Close()
	receiveFrom(t, second, first)
	fill(t, second, 5)
	m = runMirror(t, second, fast(addr))
	waitFor(t, m.Mirror, second)
	if r := audit(t, addr, second, topicOf(t, second)); !r.OK() || r.Records != 25 {
		t.Errorf("the audit says %+v, want 25 records and nothing that is changed", r)
	}
}

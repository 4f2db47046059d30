package replication

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// claimant is another site that says what it has of its log, unless it is away.
type claimant struct {
	head eventstore.LogHead
	away bool
}

func (c claimant) Pull(context.Context, Pull) (eventstore.Hash, []eventstore.Recorded, error) {
	return eventstore.Hash{}, nil, errAway
}

func (c claimant) Meet(ctx context.Context, _ <-chan Heartbeat, heard func(context.Context, Heartbeat) error) error {
	if c.away {
		return errAway
	}
	if err := heard(ctx, Heartbeat{Site: c.head.Log.Site, Log: c.head.Log, Heads: []eventstore.LogHead{c.head}, Wall: time.Now(), Direct: true}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// An alarm is told after a start as before, though the site that it is about is away; raised again it is there once, with the time
// of the last.
func TestAlarmsOutliveAStart(t *testing.T) {
	log := eventstore.LogID{Site: "sh", Incarnation: 1}
	store, theirs := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}}), memstore.New(memstore.Options{LogID: log})
	defer store.Close()
	defer theirs.Close()
	if _, err := theirs.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	for e, err := range theirs.ReadLog(t.Context(), log, 0) {
		if err == nil {
			_, err = store.Receive(t.Context(), []eventstore.Recorded{e})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	forked := claimant{head: eventstore.LogHead{Log: log, Seq: 1, Chain: eventstore.Hash{1}}}
	var kept []Alarm
	var keeping sync.Mutex
	keep := func(all []Alarm) error {
		keeping.Lock()
		defer keeping.Unlock()
		kept = slices.Clone(all)
		return nil
	}
	// run has the site run until it tells of the fork, raised after a time.
	run := func(peer Peer, after time.Time) Alarm {
		t.Helper()
		s, err := NewSite(Options{
			Config: Config{Site: "bj", Begun: true}, Store: store, Topic: newMemTopic(store), Peers: map[string]Peer{"sh": peer},
			MaxBackoff: time.Millisecond, Alarms: kept, KeepAlarms: keep,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			o, err := s.Overview(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(o.Alarms) == 1 && o.Alarms[0].Kind == AlarmFork && o.Alarms[0].At.After(after) {
				return o.Alarms[0]
			}
			if len(o.Alarms) > 1 || time.Now().After(end) {
				t.Fatalf("the alarms are %v, want one of the fork that was raised after %s", o.Alarms, after)
			}
		}
	}
	first := run(forked, time.Time{})
	if len(kept) != 1 || kept[0] != first {
		t.Errorf("kept are %v, want %v", kept, first)
	}
	if again := run(claimant{head: forked.head, away: true}, time.Time{}); again != first {
		t.Errorf("after a start it tells %v, want %v", again, first)
	}
	run(forked, first.At)
}

// The last alarms are kept, however many there are.
func TestLastAlarmsAreKept(t *testing.T) {
	var all []Alarm
	for i := range 3 * maxAlarms {
		all = raised(all, []Alarm{{Kind: AlarmSkew, Text: fmt.Sprint(i)}}, time.Now())
	}
	if len(all) != maxAlarms || all[0].Text != fmt.Sprint(2*maxAlarms) || all[maxAlarms-1].Text != fmt.Sprint(3*maxAlarms-1) {
		t.Errorf("%d alarms are kept: %v", len(all), all)
	}
}

package replication

import (
	"slices"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// A site that speaks in two lives by turns runs twice, which is said once. One that begins another life does not, whatever heartbeats
// come late.
func TestTwinsAreNoticed(t *testing.T) {
	for name, tt := range map[string]struct {
		lives  []uint32 // of its heartbeats, in turn
		every  time.Duration
		alarms int
	}{
		"twins":           {[]uint32{1, 7, 1, 7, 1, 1, 7, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7}, 125 * time.Millisecond, 1},
		"another life":    {[]uint32{1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2}, 250 * time.Millisecond, 0},
		"late heartbeats": {[]uint32{1, 1, 2, 1, 2, 1, 2, 2, 2, 2, 2, 2}, 250 * time.Millisecond, 0},
		"many lives":      {[]uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 10 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peer{name: "sz"}
			alarms := 0
			now := Instant{Mono: time.Hour}
			before := eventstore.LogID{}
			for _, life := range tt.lives {
				var out Effects
				log := eventstore.LogID{Site: "sz", Incarnation: life}
				p.turn(now, before, log, &out)
				before = log
				for _, a := range out.Alarms {
					if a.Kind == AlarmTwins && a.Site == "sz" {
						alarms++
					}
				}
				now.Mono += tt.every
			}
			if alarms != tt.alarms {
				t.Errorf("%d alarms, want %d", alarms, tt.alarms)
			}
		})
	}
}

// A site that hears of events of another life of its log that are younger than it runs says so, once for each life: another process has
// its name. What is older is its own past, whatever the number of the life.
func TestTwinWithAnotherFolderIsNoticed(t *testing.T) {
	s := newSite(t, "bj", "sh")
	begun := s.now
	s.log = memstore.NewLog(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 300}, Clock: hlc.New(func() time.Time { return s.now.Wall })})
	s.core = New(Config{Site: "bj", Peers: []string{"sh"}, Begun: true}, s.log.ID(), logStorage{s.log}, s.now)
	for _, c := range []struct {
		life  uint32
		since time.Duration // the site has started
		seq   uint64
		says  bool
	}{
		{1, -time.Hour, 9, false}, {733, -time.Hour, 1, false}, {733, time.Second, 2, false}, {733, time.Minute, 3, true}, {733, time.Hour, 4, false}, {300, time.Hour, 0, false},
		{2, 2 * time.Hour, 5, false}, {2, 2 * time.Hour, 5, false}, {2, 3 * time.Hour, 6, true}, // its clock was wrong
	} {
		log := eventstore.LogID{Site: "bj", Incarnation: c.life}
		s.now.Mono, s.now.Wall = s.now.Mono+time.Second, s.now.Wall.Add(time.Second)
		out := s.step(Heartbeat{Site: "sh", Direct: true, Sent: uint64(s.now.Mono), Wall: s.now.Wall, Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Heads: []eventstore.LogHead{
			{Log: log, Seq: c.seq, HLC: hlc.At(begun.Wall.Add(c.since)), Chain: eventstore.Hash{1}},
		}})
		says := slices.ContainsFunc(out.Alarms, func(a Alarm) bool { return a.Kind == AlarmTwins && a.Site == "bj" && a.Log == log })
		if says != c.says {
			t.Errorf("of life %d, with an event of %s after the start: said %t, want %t", c.life, c.since, says, c.says)
		}
	}
}

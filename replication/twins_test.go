package replication

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
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

// A site that hears that its log goes on in a later life, which it does not write, says so: another process has its name. Shows it once for
// each life, and not for the lives that it has begun itself.
func TestTwinWithAnotherFolderIsNoticed(t *testing.T) {
	s := newSite(t, "bj", "sh")
	told := 0
	for _, life := range []uint32{1, 2, 2, 1, 5, 5} {
		log := eventstore.LogID{Site: "bj", Incarnation: life}
		s.now.Mono += time.Second
		out := s.step(Heartbeat{Site: "sh", Direct: true, Sent: uint64(s.now.Mono), Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Heads: []eventstore.LogHead{
			{Log: log, Seq: uint64(life / 2), Chain: eventstore.Hash{byte(life)}},
		}})
		for _, a := range out.Alarms {
			if a.Kind == AlarmTwins && a.Site == "bj" && a.Log == log {
				told++
			}
		}
	}
	if told != 2 {
		t.Errorf("said %d times, want once for each of two later lives", told)
	}
}

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

package pebblestore

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// A digestMap is compared with Go's map, with keys that meet in few slots and across the end of the table.
func TestDigestMapIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, want := newDigestMap[int](rapid.IntRange(0, 40).Draw(t, "room")), map[headKey]int{}
		keys := rapid.Custom(func(t *rapid.T) headKey {
			return headKey{rapid.Uint64Range(0, 3).Draw(t, "slot") - 2, rapid.Uint64Range(1, 30).Draw(t, "rest")}
		})
		for i := range rapid.IntRange(0, 200).Draw(t, "steps") {
			k := keys.Draw(t, "key")
			switch rapid.IntRange(0, 50).Draw(t, "step") {
			case 0:
				m.clear()
				clear(want)
			case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
				*m.at(k) += i
				want[k] += i
			default:
				m.put(k, i)
				want[k] = i
			}
			got := map[headKey]int{}
			for k, v := range m.all() {
				got[k] = *v
			}
			if !maps.Equal(got, want) || m.len() != len(want) {
				t.Fatalf("it has %d entries, %v; want %v", m.len(), got, want)
			}
			k = keys.Draw(t, "looked for")
			value, known := m.get(k)
			if wantValue, wantKnown := want[k]; value != wantValue || known != wantKnown {
				t.Fatalf("%v is %d, %v; want %d, %v", k, value, known, wantValue, wantKnown)
			}
		}
	})
}

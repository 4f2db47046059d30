package keywrites

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// write does one of all kinds of writes at random: mostly of one kind to a key, so that not all comes to an error.
func write(w projections.Keys, random *rand.Rand) {
	key, name, value := fmt.Sprint(random.IntN(6)), fmt.Sprint(random.IntN(3)), fmt.Sprint(random.IntN(1000))
	kinds := []kind{sortedAdd, sortedAdd, sortedRemove, drop}
	switch {
	case random.IntN(50) == 0:
		kinds = []kind{set, drop, hashSet, hashAdd, hashDelete, sortedAdd, sortedRemove}
	case key < "2":
		kinds = []kind{set, set, drop}
	case key < "4":
		kinds = []kind{hashSet, hashAdd, hashDelete, drop}
	}
	switch kinds[random.IntN(len(kinds))] {
	case set:
		w.Set(key, []byte(value))
	case drop:
		w.Delete(key)
	case hashSet:
		w.HashSet(key, name, value)
	case hashAdd:
		w.HashAdd(key, name, int64(random.IntN(100)))
	case hashDelete:
		w.HashDelete(key, name)
	case sortedAdd:
		w.SortedAdd(key, name, float64(random.IntN(100)))
	case sortedRemove:
		w.SortedRemove(key, name)
	}
}

// What is left when overwritten writes are forgotten comes to the same as all of them.
func TestOverwrittenWritesAreForgotten(t *testing.T) {
	forgotten, bad := 0, 0
	for seed := range uint64(2000) {
		all, some := &Recorder{}, &Recorder{}
		for _, r := range []*Recorder{all, some} {
			random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test that can be repeated
			for range random.IntN(60) {
				write(r, random)
			}
		}
		some.forgetOverwritten()
		forgotten += len(all.ops) - len(some.ops)
		want, wantErr := all.Reduce()
		got, err := some.Reduce()
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("seed %d: %v without what was overwritten, and %v with it", seed, err, wantErr)
		}
		if err != nil {
			bad++
			continue
		}
		for _, keys := range [][]*Key{want, got} {
			slices.SortFunc(keys, func(a, b *Key) int { return strings.Compare(a.Name, b.Name) })
			for _, k := range keys {
				slices.SortFunc(k.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
				slices.SortFunc(k.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Key{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d (-with what was overwritten, +without):\n%s", seed, diff)
		}
	}
	if forgotten == 0 || bad == 0 || bad == 2000 {
		t.Errorf("%d writes were forgotten, %d of 2000 seeds came to an error: the test shows nothing", forgotten, bad)
	}
}

// A batch of events that write the same keys again takes the memory of one.
func TestABatchThatOverwrites(t *testing.T) {
	var r Recorder
	for event := range 5000 {
		r.Begin(eventstore.Position{Incarnation: 1, LSN: uint64(event) + 1})
		for record := range 100 {
			r.Set(fmt.Sprint("record ", record), fmt.Append(nil, event))
			r.SortedAdd("all", fmt.Sprint(record), float64(record))
		}
		if len(r.ops) > 2*fewWrites {
			t.Fatalf("after %d events that write 200 places, %d writes are kept", event+1, len(r.ops))
		}
	}
	keys, err := r.Reduce()
	if err != nil || len(keys) != 101 || string(keys[0].Value) != "4999" {
		t.Errorf("100 records and their set came to %d keys, %v", len(keys), err)
	}
}

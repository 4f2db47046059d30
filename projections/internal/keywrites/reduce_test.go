package keywrites

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tributary-es/tributary/projections"
)

var (
	_ projections.Keys     = (*Recorder)(nil)
	_ projections.Recorder = (*Recorder)(nil)
)

func TestReduce(t *testing.T) {
	for name, test := range map[string]struct {
		write func(w projections.Keys)
		want  []*Key
	}{
		"the last of several wins": {
			func(w projections.Keys) {
				w.Set("k", []byte("1"))
				w.Set("k", []byte("2"))
				w.HashSet("h", "f", "1")
				w.HashSet("h", "f", "2")
				w.SortedAdd("z", "m", 1)
				w.SortedAdd("z", "m", 2)
			},
			[]*Key{
				{Name: "k", Base: Replace, Value: []byte("2")},
				{Name: "h", Fields: []Field{{Name: "f", Op: FieldSet, Value: "2"}}},
				{Name: "z", Members: []Member{{Name: "m", Score: 2}}},
			},
		},
		"sums are added up, also to nothing": {
			func(w projections.Keys) {
				w.HashAdd("h", "f", 5)
				w.HashAdd("h", "f", -7)
				w.HashAdd("h", "g", 3)
				w.HashAdd("h", "g", -3)
			},
			[]*Key{{Name: "h", Fields: []Field{{Name: "f", Op: FieldAdd, Delta: -2}, {Name: "g", Op: FieldAdd}}}},
		},
		"adding to what was set or deleted before": {
			func(w projections.Keys) {
				w.HashSet("h", "f", "40")
				w.HashAdd("h", "f", 2)
				w.HashAdd("h", "g", 1)
				w.HashDelete("h", "g")
				w.HashAdd("h", "g", 9)
			},
			[]*Key{{Name: "h", Fields: []Field{{Name: "f", Op: FieldSet, Value: "42"}, {Name: "g", Op: FieldSet, Value: "9"}}}},
		},
		"deleting forgets, and what follows begins anew": {
			func(w projections.Keys) {
				w.HashAdd("h", "f", 5)
				w.HashSet("h", "g", "x")
				w.Delete("h")
				w.HashAdd("h", "f", 1)
				w.HashDelete("h", "g")
			},
			[]*Key{{Name: "h", Base: Drop, Fields: []Field{
				{Name: "f", Op: FieldSet, Value: "1"}, {Name: "g", Op: FieldDelete},
			}}},
		},
		"a key may become another kind when it was deleted": {
			func(w projections.Keys) {
				w.Set("k", []byte("1"))
				w.Delete("k")
				w.SortedAdd("k", "m", math.Copysign(0, -1))
				w.SortedRemove("k", "n")
			},
			[]*Key{{Name: "k", Base: Drop, Members: []Member{{Name: "m", Score: 0}, {Name: "n", Remove: true}}}},
		},
		"a string replaces everything": {
			func(w projections.Keys) {
				w.HashSet("k", "f", "x")
				w.Set("k", []byte("1"))
			},
			[]*Key{{Name: "k", Base: Replace, Value: []byte("1")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r Recorder
			test.write(&r)
			got, err := r.Reduce()
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Key{}), cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("Reduce: %v\n%s", err, diff)
			}
		})
	}
}

func TestReduceRefusesNonsense(t *testing.T) {
	for name, write := range map[string]func(w projections.Keys){
		"a field in a string":      func(w projections.Keys) { w.Set("k", nil); w.HashSet("k", "f", "") },
		"a member in a string":     func(w projections.Keys) { w.Set("k", nil); w.SortedAdd("k", "m", 0) },
		"hash and sorted set":      func(w projections.Keys) { w.HashAdd("k", "f", 1); w.SortedAdd("k", "m", 0) },
		"sorted set and hash":      func(w projections.Keys) { w.SortedRemove("k", "m"); w.HashDelete("k", "f") },
		"adding to a word":         func(w projections.Keys) { w.HashSet("k", "f", "x"); w.HashAdd("k", "f", 1) },
		"adding to +1":             func(w projections.Keys) { w.HashSet("k", "f", "+1"); w.HashAdd("k", "f", 1) },
		"adding to 01":             func(w projections.Keys) { w.HashSet("k", "f", "01"); w.HashAdd("k", "f", 1) },
		"sums beyond 64 bits":      func(w projections.Keys) { w.HashAdd("k", "f", math.MaxInt64); w.HashAdd("k", "f", 1) },
		"sums below 64 bits":       func(w projections.Keys) { w.HashAdd("k", "f", math.MinInt64); w.HashAdd("k", "f", -1) },
		"a set value and too much": func(w projections.Keys) { w.HashSet("k", "f", "9223372036854775807"); w.HashAdd("k", "f", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			var r Recorder
			write(&r)
			if keys, err := r.Reduce(); !errors.Is(err, projections.ErrBadWrite) {
				t.Errorf("Reduce: %v, %v, want ErrBadWrite", keys, err)
			}
		})
	}
}

func TestUndoForgetsWhatFollowsAMark(t *testing.T) {
	var r Recorder
	r.HashSet("h", "f", "kept")
	mark := r.Mark()
	r.HashSet("h", "f", "forgotten")
	r.Set("k", nil)
	r.Undo(mark)
	got, err := r.Reduce()
	want := []*Key{{Name: "h", Fields: []Field{{Name: "f", Value: "kept"}}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Key{}), cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("Reduce: %v\n%s", err, diff)
	}
}

func TestScoresThatAreNoNumbersPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a score that is not a number was taken")
		}
	}()
	new(Recorder).SortedAdd("z", "m", math.NaN())
}

// TestReverse: what is added is taken back by number, what is set or deleted by being deleted, whatever was added to it besides.
func TestReverse(t *testing.T) {
	var r Recorder
	r.HashAdd("kept", "f", 1)
	mark := r.Mark()
	r.HashAdd("shared", "f", 5)
	r.HashSet("own", "f", "4")
	r.HashAdd("own", "f", 3)
	r.HashAdd("own", "g", 2)
	r.SortedAdd("z", "m", 7)
	r.HashAdd("whole", "f", 9)
	r.Delete("whole")
	r.Reverse(mark)
	got, err := r.Reduce()
	if err != nil {
		t.Fatal(err)
	}
	want := []*Key{
		{Name: "kept", Fields: []Field{{Name: "f", Op: FieldAdd, Delta: 1}}},
		{Name: "shared", Fields: []Field{{Name: "f", Op: FieldAdd, Delta: -5}}},
		{Name: "whole", Base: Drop},
		{Name: "own", Fields: []Field{{Name: "f", Op: FieldDelete}, {Name: "g", Op: FieldAdd, Delta: -2}}},
		{Name: "z", Members: []Member{{Name: "m", Remove: true}}},
	}
	byName := cmpopts.SortSlices(func(a, b *Key) bool { return a.Name < b.Name })
	if diff := cmp.Diff(want, got, byName, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

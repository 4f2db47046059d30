package commands_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

type inner struct{ secret int }

type hashed struct {
	Name  string
	At    time.Time
	Map   map[string]int
	List  []inner
	Any   any
	Ptr   *inner
	Bytes []byte
	Array [2]uint8
	F     float64
	Proto *wrapperspb.StringValue
	Later string // a field that was added later, still zero
}

func TestHashTellsCommandsApart(t *testing.T) {
	at := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	variants := []any{
		hashed{},
		hashed{Name: "a"},
		hashed{Later: "a"},
		hashed{At: at},
		hashed{At: at.Add(1)},
		hashed{Map: map[string]int{"a": 1}},
		hashed{Map: map[string]int{"a": 2}},
		hashed{Map: map[string]int{"b": 1}},
		hashed{List: []inner{{1}}},
		hashed{List: []inner{{2}}},
		hashed{List: []inner{{1}, {2}}},
		hashed{List: []inner{{2}, {1}}},
		hashed{Any: 1},
		hashed{Any: int64(1)},
		hashed{Any: "1"},
		hashed{Ptr: &inner{}},
		hashed{Ptr: &inner{1}},
		hashed{Bytes: []byte{1}},
		hashed{Bytes: []byte{1, 0}},
		hashed{Array: [2]uint8{1}},
		hashed{F: 0.5},
		hashed{Proto: wrapperspb.String("a")},
		hashed{Proto: wrapperspb.String("b")},
		&hashed{Name: "a"},
		deposit{"a", 1},
		withdraw{"a", 1},
		1, "1",
	}
	seen := map[eventstore.Hash]any{}
	for _, v := range variants {
		h, err := commands.HashOf(v)
		must(t, err)
		if twin, ok := seen[h]; ok {
			t.Errorf("%+v and %+v have the same hash", twin, v)
		}
		seen[h] = v
	}
	two, err := commands.HashOf(1, 1)
	if must(t, err); seen[two] != nil {
		t.Error("one command and two have the same hash")
	}
}

func TestHashIsTheSameForTheSameCommand(t *testing.T) {
	command := func() hashed {
		m := map[string]int{}
		for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
			m[k] = len(m)
		}
		return hashed{Name: "n", Map: m, Any: inner{3}, Ptr: &inner{4}, Proto: wrapperspb.String("x")}
	}
	want, err := commands.HashOf(command())
	must(t, err)
	for range 20 {
		if got, err := commands.HashOf(command()); err != nil || got != want {
			t.Fatalf("hash is %x, then %x (%v)", want, got, err)
		}
	}
}

// A program that has learned a field must know the requests of one that had not.
func TestHashOutlivesNewFields(t *testing.T) {
	before := func() any {
		type place struct{ ID string }
		return place{"1"}
	}()
	after := func() any {
		type place struct {
			Gift bool
			ID   string
			Note *string
		}
		return place{ID: "1"}
	}()
	a, err := commands.HashOf(before)
	must(t, err)
	b, err := commands.HashOf(after)
	must(t, err)
	if a != b {
		t.Error("a field that is zero changed the hash")
	}
}

func TestHashRefusesWhatHasNoContent(t *testing.T) {
	type loop struct{ Next *loop }
	endless := &loop{}
	endless.Next = endless
	for _, v := range []any{nil, struct{ F func() }{func() {}}, struct{ C chan int }{make(chan int)}, endless} {
		if _, err := commands.HashOf(v); err == nil {
			t.Errorf("%T was hashed, want an error", v)
		}
	}
}

package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"pgregory.net/rapid"
)

func TestPositionToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := eventstore.Position{Incarnation: rapid.Uint32().Draw(t, "incarnation"), LSN: rapid.Uint64().Draw(t, "lsn")}
		got, err := eventstore.ParsePosition(want.String())
		if err != nil || got != want {
			t.Fatalf("%s parses as %v, %v", want, got, err)
		}
	})
	for _, token := range []string{"", "-", "1", "1-", "-1", "1-x", "x-1", "1-2-3", "-1-2", " 1-2", "1-2 ", "4294967296-1", "1-18446744073709551616", "+1-2"} {
		if p, err := eventstore.ParsePosition(token); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("position %q parses as %v, %v", token, p, err)
		}
	}
}

func TestDotText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := eventstore.Dot{Log: eventstore.LogID{
			Site: rapid.StringMatching("[a-z0-9][a-z0-9-]{0,15}").Draw(t, "site"), Incarnation: rapid.Uint32().Draw(t, "incarnation"), Shard: rapid.Uint16().Draw(t, "shard"),
		}, Seq: rapid.Uint64().Draw(t, "seq")}
		got, err := eventstore.ParseDot(want.String())
		if err != nil || got != want {
			t.Fatalf("%s parses as %v, %v", want, got, err)
		}
	})
	for _, text := range []string{"", "shard-00@/1/1", "shard-0@bj/1/1", "00@bj/1/1", "shard-00@bj/1", "shard-00@bj/1/1/1", "shard-00@bj/x/1", "shard-00@BJ/1/1", "shard-00/1/1"} {
		if d, err := eventstore.ParseDot(text); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("event %q parses as %v, %v", text, d, err)
		}
	}
}

// FuzzTexts feeds what clients name positions, streams and versions with: what is taken is written as it was read.
func FuzzTexts(f *testing.F) {
	f.Add("1-42")
	f.Add("acme/order/A-1")
	f.Add(`"3"`)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := eventstore.ParsePosition(text); err == nil {
			if again, err := eventstore.ParsePosition(p.String()); err != nil || again != p {
				t.Fatalf("position %q is %s, and that is %s, %v", text, p, again, err)
			}
		} else if !errors.Is(err, eventstore.ErrInvalid) {
			t.Fatalf("position %q: %v", text, err)
		}
		if s, err := eventstore.ParseStreamID(text); err == nil && s.String() != text {
			t.Fatalf("stream %q is %s", text, s)
		} else if err != nil && !errors.Is(err, eventstore.ErrInvalid) {
			t.Fatalf("stream %q: %v", text, err)
		}
		if _, err := eventstore.ParseIfMatch([]string{text}); err != nil && !errors.Is(err, eventstore.ErrInvalid) {
			t.Fatalf("If-Match %q: %v", text, err)
		}
	})
}

func TestPositionCheck(t *testing.T) {
	head := eventstore.Position{Incarnation: 2, LSN: 10}
	for p, want := range map[eventstore.Position]error{
		{}:                        nil,
		{Incarnation: 7}:          nil,
		{Incarnation: 2, LSN: 1}:  nil,
		head:                      nil,
		{Incarnation: 2, LSN: 11}: eventstore.ErrWrongIncarnation,
		{Incarnation: 1, LSN: 5}:  eventstore.ErrWrongIncarnation,
		{Incarnation: 3, LSN: 5}:  eventstore.ErrWrongIncarnation,
	} {
		if err := p.Check(head); !errors.Is(err, want) {
			t.Errorf("position %s with the head at %s: %v, want %v", p, head, err, want)
		}
	}
}

func TestPositionOrder(t *testing.T) {
	sorted := []eventstore.Position{{}, {Incarnation: 1, LSN: 1}, {Incarnation: 1, LSN: 2}, {Incarnation: 2, LSN: 0}, {Incarnation: 2, LSN: 1}}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := a.Compare(b); got != cmpInt(i, j) {
				t.Errorf("%s compared with %s: %d", a, b, got)
			}
		}
	}
}

func cmpInt(i, j int) int {
	switch {
	case i < j:
		return -1
	case i > j:
		return 1
	}
	return 0
}

func TestStreamIDText(t *testing.T) {
	for _, text := range []string{"default/order/1", "acme/order-x/a/b/c", "$sys/$receipt/ü", "default/order//"} {
		s, err := eventstore.ParseStreamID(text)
		if err != nil || s.String() != text {
			t.Errorf("stream %q parses as %q, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "order", "default/order", "default/order/", "/order/1", "Default/order/1", "default//1", "default/order/\x00", "a$/b/c"} {
		if s, err := eventstore.ParseStreamID(text); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("stream %q parses as %q, %v", text, s, err)
		}
	}
}

func TestVector(t *testing.T) {
	dot := func(site string, seq uint64) eventstore.Dot {
		return eventstore.Dot{Log: eventstore.LogID{Site: site, Incarnation: 1}, Seq: seq}
	}
	rapid.Check(t, func(t *rapid.T) {
		model := map[eventstore.LogID]uint64{}
		var v eventstore.Vector
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			d := dot(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "site"), rapid.Uint64Range(1, 9).Draw(t, "seq"))
			before := append(eventstore.Vector(nil), v...)
			next := v.With(d)
			if diff := cmp.Diff(before, v); diff != "" {
				t.Fatalf("With changed the vector it was called on:\n%s", diff)
			}
			v, model[d.Log] = next, max(model[d.Log], d.Seq)
		}
		for i, d := range v {
			if i > 0 && v[i-1].Log.Compare(d.Log) >= 0 {
				t.Fatalf("not sorted: %v", v)
			}
		}
		for _, site := range []string{"a", "b", "c", "d"} {
			if log := dot(site, 0).Log; v.At(log) != model[log] {
				t.Fatalf("At(%s) = %d, want %d", log, v.At(log), model[log])
			}
		}
	})
}

func TestCellsAreEven(t *testing.T) {
	const streams = 100 * eventstore.Cells
	var count [eventstore.Cells]int
	for i := range streams {
		count[eventstore.CellOf(eventstore.Stream("order", fmt.Sprint(i)))]++
	}
	for cell, n := range count {
		if n < 50 || n > 200 {
			t.Errorf("cell %d has %d of %d streams", cell, n, streams)
		}
	}
}

func TestClasses(t *testing.T) {
	for err, want := range map[error]eventstore.Class{
		&eventstore.ConflictError{}:                     eventstore.Rejected,
		fmt.Errorf("op: %w", eventstore.ErrIDReused):    eventstore.Rejected,
		fmt.Errorf("op: %w", eventstore.ErrUnavailable): eventstore.Transient,
		fmt.Errorf("op: %w", context.DeadlineExceeded):  eventstore.Transient,
		fmt.Errorf("op: %w", eventstore.ErrCorrupt):     eventstore.Broken,
		errors.New("never seen"):                        eventstore.Broken,
		classified{}:                                    eventstore.Transient,
	} {
		if got := eventstore.ClassOf(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

type classified struct{}

func (classified) Error() string           { return "classified" }
func (classified) Class() eventstore.Class { return eventstore.Transient }

func TestChain(t *testing.T) {
	log := eventstore.LogID{Site: "sh", Incarnation: 1}
	start := eventstore.ChainStart(log)
	if start == eventstore.ChainStart(eventstore.LogID{Site: "sh", Incarnation: 2}) {
		t.Error("two lives of a log begin with the same chain")
	}
	plain := eventstore.NextChain(start, 1, 2, 3, eventstore.Hash{4})
	for name, other := range map[string]eventstore.Hash{
		"previous": eventstore.NextChain(eventstore.Hash{}, 1, 2, 3, eventstore.Hash{4}),
		"seq":      eventstore.NextChain(start, 9, 2, 3, eventstore.Hash{4}),
		"hlc":      eventstore.NextChain(start, 1, 9, 3, eventstore.Hash{4}),
		"version":  eventstore.NextChain(start, 1, 2, 9, eventstore.Hash{4}),
		"content":  eventstore.NextChain(start, 1, 2, 3, eventstore.Hash{9}),
	} {
		if other == plain {
			t.Errorf("the chain does not depend on %s", name)
		}
	}
}

func TestVectorsAsText(t *testing.T) {
	log := func(site string, incarnation uint32) eventstore.LogID {
		return eventstore.LogID{Site: site, Incarnation: incarnation, Shard: 2}
	}
	v := eventstore.Vector{{Log: log("bj", 1), Seq: 7}, {Log: log("bj", 3), Seq: 1}, {Log: log("sh-2", 1), Seq: 1 << 60}}
	got, err := eventstore.ParseVector(v.String())
	if diff := cmp.Diff(v, got); diff != "" || err != nil {
		t.Errorf("%s: %v\n%s", v, err, diff)
	}
	got, err = eventstore.ParseVector("shard-02@bj/1/9, shard-02@bj/1/7")
	if diff := cmp.Diff(eventstore.Vector{{Log: log("bj", 1), Seq: 9}}, got); diff != "" || err != nil {
		t.Errorf("two tokens: %v\n%s", err, diff)
	}
	for _, wrong := range []string{"", ",", "1-42", "shard-00@bj/1", "shard-00@bj/1/x", "shard-99999@bj/1/2", "shard-00@bj/1/2,"} {
		if v, err := eventstore.ParseVector(wrong); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%q reads as %v, %v", wrong, v, err)
		}
	}
}

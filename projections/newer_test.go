package projections_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// What only a newer program knows, and another site has recorded, is parked with what comes after it in its stream; all other streams go
// on. A program that knows it applies all of that when it starts. Shows I15.
func TestWhatOnlyANewerProgramKnows(t *testing.T) {
	const newer = "counter.counted.v2"
	here := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "here", Incarnation: 1}})
	there := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "there", Incarnation: 1}})
	appendTo(t, there, "c0", counted, "1")
	appendTo(t, there, "c0", newer, "2")
	appendTo(t, there, "c0", counted, "3")
	appendTo(t, there, "c1", counted, "4")
	hear(t, here, there)
	last := appendTo(t, here, "c2", counted, "5")

	var known atomic.Bool // as if the program were another one
	p := counters(1)
	p.Types, p.Categories = nil, []string{"counter"}
	p.Unknown = func(e *eventstore.Recorded) bool { return e.Type == newer && !known.Load() }
	sink := memview.NewKeys(p)
	first := projections.NewRunner(here, sink, quiet)
	wait := start(t, first)
	await(t, first, last)
	parked, err := sink.Parked(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(parked) != 2 || parked[0].Type != newer || !strings.Contains(parked[0].Reason, newer) || parked[1].Reason != "" {
		t.Fatalf("parked: %v; want the event that is not known, and the one behind it", parked)
	}
	if got := first.Status().Parked; got != 2 {
		t.Errorf("status says that %d events are parked", got)
	}
	for counter, want := range map[string]string{"c0": "1", "c1": "4", "c2": "5"} {
		if got := sumOf(t, sink, counter); got != want {
			t.Errorf("%s is %q, want %s", counter, got, want)
		}
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}

	known.Store(true)
	second := projections.NewRunner(here, sink, quiet)
	wait = start(t, second)
	await(t, second, appendTo(t, here, "c0", counted, "6"))
	if parked, err := sink.Parked(t.Context()); err != nil || len(parked) > 0 || second.Status().Parked > 0 {
		t.Errorf("a program that knows it has parked %v (%v); status: %+v", parked, err, second.Status())
	}
	if got := sumOf(t, sink, "c0"); got != "12" {
		t.Errorf("c0 is %q, want 12", got)
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
}

// sumOf returns the sum of a counter as a model has it.
func sumOf(t *testing.T, sink *memview.Keys, counter string) string {
	t.Helper()
	got, err := sink.HashField(t.Context(), counter, "sum")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// hear has a log take in all that was born at another one.
func hear(t *testing.T, log, other *memstore.Store) {
	t.Helper()
	of, err := other.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var events []eventstore.Recorded
	for e, err := range other.ReadLog(context.Background(), of.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if _, err := log.Receive(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// Package storetest is the conformance suite of event stores: what package eventstore promises, as tests.
//
// A store's own tests call Run. A model test (Model) runs random operations against the store and against memstore, and
// wants the same answers from both.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"go.uber.org/goleak"
)

// Options says how to get at the store under test.
type Options struct {
	// Open returns an empty store of incarnation 1 of shard 0 at site "local". The suite closes it.
	Open func(t testing.TB) eventstore.Store
	// Reopen closes the store and opens what it left. Nil when the store keeps nothing.
	Reopen func(t testing.TB, s eventstore.Store) eventstore.Store
	// SkipModel leaves the model test out, for another run of the same store that has it.
	SkipModel bool
	// Features says what the store can do beyond the least.
	Features Features
}

// Features of a store.
type Features struct {
	// Verifier: the store implements eventstore.Verifier.
	Verifier bool
	// Replica: the store implements eventstore.Replica.
	Replica bool
}

// patience is how long a test waits for what must come; a test that has to wait so long fails.
const patience = 30 * time.Second

// Run runs the suite.
func Run(t *testing.T, o Options) {
	groups := []group{
		{"Append", appendTests},
		{"Idempotency", idempotencyTests},
		{"Enqueue", enqueueTests},
		{"Condition", conditionTests},
		{"Read", readTests},
		{"Filter", filterTests},
		{"AsOf", asOfTests},
		{"Subscribe", subscribeTests},
		{"Close", closeTests},
	}
	if o.Features.Replica {
		groups = append(groups, group{"Replica", replicaTests})
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, tt := range g.tests {
				t.Run(tt.name, func(t *testing.T) {
					leaks := goleak.IgnoreCurrent()
					f := &fixture{TB: t, o: o, ctx: t.Context(), store: o.Open(t)}
					tt.run(f)
					f.verify()
					if err := f.store.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
					goleak.VerifyNone(t, leaks)
				})
			}
		})
	}
	if !o.SkipModel {
		t.Run("Model", func(t *testing.T) { Model(t, o) })
	}
}

type group struct {
	name  string
	tests []test
}

type test struct {
	name string
	run  func(*fixture)
}

// fixture is one test's store, with the calls that tests make most.
type fixture struct {
	testing.TB
	o     Options
	ctx   context.Context
	store eventstore.Store
}

// reopen closes the store and opens it again; without Reopen the store stays as it is.
func (f *fixture) reopen() {
	f.Helper()
	if f.o.Reopen != nil {
		f.store = f.o.Reopen(f, f.store)
	}
}

// verify lets the store check itself, if it can and is still open.
func (f *fixture) verify() {
	f.Helper()
	v, ok := f.store.(eventstore.Verifier)
	if ok != f.o.Features.Verifier {
		f.Fatalf("store is a Verifier: %v, Features say %v", ok, f.o.Features.Verifier)
	}
	if _, err := f.store.Log(f.ctx); !ok || err != nil {
		return
	}
	report, err := v.Verify(f.ctx, nil)
	if err != nil {
		f.Fatalf("verify: %v", err)
	}
	for _, fault := range report.Faults {
		f.Errorf("verify: %s", fault)
	}
}

func (f *fixture) mustAppend(r eventstore.Request) eventstore.Receipt {
	f.Helper()
	receipt, err := f.store.Append(f.ctx, r)
	if err != nil {
		f.Fatalf("append: %v", err)
	}
	return receipt
}

func (f *fixture) head() eventstore.LogState {
	f.Helper()
	state, err := f.store.Log(f.ctx)
	if err != nil {
		f.Fatalf("log: %v", err)
	}
	return state
}

func (f *fixture) version(s eventstore.StreamID) uint64 {
	f.Helper()
	v, err := f.store.Version(f.ctx, s)
	if err != nil {
		f.Fatalf("version of %s: %v", s, err)
	}
	return v
}

func (f *fixture) all(after eventstore.Position, filter eventstore.Filter) []eventstore.Recorded {
	f.Helper()
	var out []eventstore.Recorded
	for e, err := range f.store.ReadAll(f.ctx, after, filter) {
		if err != nil {
			f.Fatalf("read all after %s: %v", after, err)
		}
		out = append(out, e)
	}
	return out
}

func (f *fixture) stream(s eventstore.StreamID, from uint64) []eventstore.Recorded {
	f.Helper()
	var out []eventstore.Recorded
	for e, err := range f.store.Read(f.ctx, s, from) {
		if err != nil {
			f.Fatalf("read %s: %v", s, err)
		}
		out = append(out, e)
	}
	return out
}

func (f *fixture) backwards(s eventstore.StreamID, from uint64) []eventstore.Recorded {
	f.Helper()
	var out []eventstore.Recorded
	for e, err := range f.store.ReadBackwards(f.ctx, s, from) {
		if err != nil {
			f.Fatalf("read %s backwards: %v", s, err)
		}
		out = append(out, e)
	}
	return out
}

func (f *fixture) subscribe(after eventstore.Position, filter eventstore.Filter) eventstore.Subscription {
	f.Helper()
	sub, err := f.store.Subscribe(f.ctx, after, filter)
	if err != nil {
		f.Fatalf("subscribe after %s: %v", after, err)
	}
	f.Cleanup(sub.Close)
	return sub
}

// next returns the subscription's next chunk, and fails the test when it does not come.
func (f *fixture) next(sub eventstore.Subscription) eventstore.Chunk {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	chunk, err := sub.Next(ctx)
	if err != nil {
		f.Fatalf("next chunk: %v", err)
	}
	return chunk
}

// equal compares two values and says what differs.
func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		f.Fatalf("%s is not as wanted (-want +got):\n%s", what, diff)
	}
}

// events returns n events of a type, with payloads that tell them apart.
func events(typ string, n int) []eventstore.Event {
	out := make([]eventstore.Event, n)
	for i := range out {
		out[i] = eventstore.Event{Type: typ, Encoding: eventstore.JSON, Payload: fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	return out
}

// one returns a request for n events in one stream.
func one(s eventstore.StreamID, expect eventstore.Expect, n int) eventstore.Request {
	return eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: s, Expect: expect, Events: events(s.Category+".changed.v1", n)}}}
}

// at returns a position of the log under test.
func at(lsn uint64) eventstore.Position { return eventstore.Position{Incarnation: 1, LSN: lsn} }

// dot returns the identity of an event that was born in the log under test.
func dot(seq uint64) eventstore.Dot {
	return eventstore.Dot{Log: eventstore.LogID{Site: "local", Incarnation: 1}, Seq: seq}
}

// checkDense checks that the events are all there is between two positions, in whole batches, each stream and the log's
// own seq without a gap. versions carries the streams' heads from call to call.
func checkDense(f *fixture, after uint64, got []eventstore.Recorded, versions map[eventstore.StreamID]uint64) {
	f.Helper()
	for i := range got {
		e := &got[i]
		if e.Position != at(after+uint64(i)+1) || e.Dot.Seq != after+uint64(i)+1 {
			f.Fatalf("event %d after lsn %d is at %s with seq %d: not dense", i, after, e.Position, e.Dot.Seq)
		}
		if e.Version != versions[e.Stream]+1 {
			f.Fatalf("event at %s is version %d of %s after version %d", e.Position, e.Version, e.Stream, versions[e.Stream])
		}
		versions[e.Stream] = e.Version
	}
	if n := len(got); n > 0 && (got[0].Dot.Seq != got[0].Batch.FirstSeq || !got[n-1].EndsBatch()) {
		f.Fatalf("events %s to %s do not begin and end with whole batches", got[0].Position, got[n-1].Position)
	}
}

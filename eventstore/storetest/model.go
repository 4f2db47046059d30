package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"pgregory.net/rapid"
)

// Model runs random operations against the store and against memstore, and wants the same answers from both (S15, S16, G6).
func Model(t *testing.T, o Options) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			f:    &fixture{TB: t, o: o, ctx: t.Context(), store: o.Open(t)},
			want: memstore.New(memstore.Options{}),
		}
		defer func() { _ = m.f.store.Close() }()
		actions := map[string]func(*rapid.T){
			"append": m.append,
			"reopen": func(*rapid.T) { m.f.reopen() },
			"stream": m.readStream,
			"log":    m.readLog,
			"as of":  m.readAsOf,
			"":       m.check,
		}
		if o.Features.Replica && rapid.Bool().Draw(rt, "replica") {
			m.begin()
			actions["elsewhere"], actions["receive"], actions["one log"] = m.elsewhere, m.receive, m.readOneLog
		}
		rt.Repeat(actions)
		m.f.verify()
	})
}

type model struct {
	f    *fixture
	want *memstore.Store
	ids  int
	far  []*far // the logs of other sites
}

var (
	modelStreams = rapid.Custom(func(t *rapid.T) eventstore.StreamID {
		return eventstore.Stream(rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "category"), rapid.SampledFrom([]string{"1", "10", "2", "1/0"}).Draw(t, "id"))
	})
	modelExpect = rapid.SampledFrom([]eventstore.Expect{
		eventstore.Any, eventstore.Any, eventstore.Any, eventstore.NoStream, eventstore.Exists, 1, 2, 3, 5,
	})
)

var (
	modelType  = rapid.SampledFrom([]string{"t.v1", "u.v1"})
	modelTag   = rapid.SampledFrom([]string{"x:1", "x:2", "y:1", "z"})
	modelQuery = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) eventstore.QueryItem {
		return eventstore.QueryItem{
			Types: rapid.SliceOfN(modelType, 0, 2).Draw(t, "types"), Tags: rapid.SliceOfN(modelTag, 0, 2).Draw(t, "tags"),
		}
	}).Filter(func(i eventstore.QueryItem) bool { return len(i.Types)+len(i.Tags) > 0 }), 0, 2)
)

func (m *model) append(t *rapid.T) {
	r := m.draw(t, true)
	copied := r
	copied.Appends = slices.Clone(r.Appends)
	for i := range copied.Appends {
		copied.Appends[i].Events = slices.Clone(r.Appends[i].Events)
	}
	got, gotErr := m.f.store.Append(m.f.ctx, r)
	want, wantErr := m.want.Append(m.f.ctx, copied)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("receipt differs from the model's (-model +store):\n%s\nerrors: model %v, store %v", diff, wantErr, gotErr)
	}
	m.sameError(t, gotErr, wantErr)
}

func (m *model) sameError(t *rapid.T, got, want error) {
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Fatalf("model says %v, store says %v", want, got)
	}
	for _, sentinel := range []error{eventstore.ErrConflict, eventstore.ErrIDReused, eventstore.ErrInvalid, eventstore.ErrGap, eventstore.ErrFork} {
		if errors.Is(want, sentinel) != errors.Is(got, sentinel) {
			t.Fatalf("model says %v, store says %v", want, got)
		}
	}
}

// draw returns a request that the store may take or refuse.
func (m *model) draw(t *rapid.T, conditional bool) eventstore.Request {
	r := eventstore.Request{ID: rapid.SampledFrom([]string{"", "", "", "x", "y", "z", "w"}).Draw(t, "id")}
	if r.ID != "" {
		r.Hash = eventstore.Hash{rapid.ByteRange(1, 2).Draw(t, "hash")}
	}
	if conditional && rapid.IntRange(0, 2).Draw(t, "conditional") == 0 {
		state, err := m.want.Log(m.f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		r.Condition = &eventstore.Condition{
			Query: modelQuery.Filter(func(q []eventstore.QueryItem) bool { return len(q) > 0 }).Draw(t, "condition"),
			After: at(rapid.Uint64Range(0, state.Durable.LSN).Draw(t, "condition after")),
		}
	}
	streams := rapid.SliceOfNDistinct(modelStreams, 0, 3, rapid.ID[eventstore.StreamID]).Draw(t, "streams")
	for _, s := range streams {
		a := eventstore.StreamAppend{Stream: s, Expect: modelExpect.Draw(t, "expect")}
		for range rapid.IntRange(1, 4).Draw(t, "events") {
			m.ids++
			a.Events = append(a.Events, eventstore.Event{
				ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, m.ids)), Type: modelType.Draw(t, "type"),
				Payload: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload"),
				Tags:    rapid.SliceOfN(modelTag, 0, 3).Draw(t, "tags"),
			})
		}
		r.Appends = append(r.Appends, a)
	}
	return r
}

func (m *model) readStream(t *rapid.T) {
	s, from := modelStreams.Draw(t, "stream"), rapid.Uint64Range(0, 6).Draw(t, "from")
	same(t, "stream", m.f.store.Read(m.f.ctx, s, from), m.want.Read(m.f.ctx, s, from))
	same(t, "stream backwards", m.f.store.ReadBackwards(m.f.ctx, s, from), m.want.ReadBackwards(m.f.ctx, s, from))
}

func (m *model) readLog(t *rapid.T) {
	state, err := m.want.Log(m.f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	after := at(rapid.Uint64Range(0, state.Durable.LSN+1).Draw(t, "after"))
	filter := eventstore.Filter{
		Categories: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "b"}), 0, 2).Draw(t, "categories"),
		Types:      rapid.SliceOfN(modelType, 0, 1).Draw(t, "types"),
		Query:      modelQuery.Draw(t, "query"),
		Tenant:     rapid.SampledFrom([]string{"", "", eventstore.DefaultTenant, "other"}).Draw(t, "tenant"),
		Lent:       rapid.Bool().Draw(t, "lent"),
	}
	same(t, "log backwards", m.f.store.ReadAllBackwards(m.f.ctx, after, filter), m.want.ReadAllBackwards(m.f.ctx, after, filter))
	same(t, "log", m.f.store.ReadAll(m.f.ctx, after, filter), m.want.ReadAll(m.f.ctx, after, filter))
}

func (m *model) readAsOf(t *rapid.T) {
	state, err := m.want.Log(m.f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, p := modelStreams.Draw(t, "stream"), at(rapid.Uint64Range(0, state.Durable.LSN+1).Draw(t, "as of"))
	got, gotErr := m.f.store.VersionAt(m.f.ctx, s, p)
	want, wantErr := m.want.VersionAt(m.f.ctx, s, p)
	if got != want || errors.Is(gotErr, eventstore.ErrWrongIncarnation) != errors.Is(wantErr, eventstore.ErrWrongIncarnation) {
		t.Fatalf("version of %s at %s: model says %d, %v; store says %d, %v", s, p, want, wantErr, got, gotErr)
	}
	filter := eventstore.Filter{Until: p, Types: rapid.SliceOfN(modelType, 0, 1).Draw(t, "types")}
	after := at(rapid.Uint64Range(0, state.Durable.LSN).Draw(t, "after"))
	same(t, "log as of", m.f.store.ReadAll(m.f.ctx, after, filter), m.want.ReadAll(m.f.ctx, after, filter))
	same(t, "log as of, backwards", m.f.store.ReadAllBackwards(m.f.ctx, after, filter), m.want.ReadAllBackwards(m.f.ctx, after, filter))
}

// check compares what every operation can have changed.
func (m *model) check(t *rapid.T) {
	got, err := m.f.store.Log(m.f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.want.Log(m.f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	own := want.ID
	want.Chain = got.Chain // the clocks of both stores differ, and so do their chains
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("log differs from the model's (-model +store):\n%s", diff)
	}
	for _, id := range []string{"x", "y", "z", "w"} {
		wantReceipt, wantHash, wantErr := m.want.Receipt(m.f.ctx, "", id)
		gotReceipt, gotHash, gotErr := m.f.store.Receipt(m.f.ctx, "", id)
		if diff := cmp.Diff(wantReceipt, gotReceipt); diff != "" || wantHash != gotHash || fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
			t.Fatalf("receipt of %q differs from the model's (-model +store):\n%s\nmodel %v, store %v", id, diff, wantErr, gotErr)
		}
	}
	if m.far != nil {
		m.sameHeads(t, own)
	}
}

// same compares two readings. Times and what is drawn at random differ between two stores.
func same(t *rapid.T, what string, got, want func(func(eventstore.Recorded, error) bool)) {
	type entry struct {
		Event eventstore.Recorded
		Err   string
	}
	list := func(seq func(func(eventstore.Recorded, error) bool)) (out []entry) {
		for e, err := range seq {
			if e.Dot.Log.Site == "local" {
				e.HLC, e.Chain = 0, eventstore.Hash{}
			}
			if e.Type == eventstore.ReceiptType {
				e.Event.ID = uuid.Nil
			}
			if e.Payload = bytes.Clone(e.Payload); len(e.Payload) == 0 { // it may be lent
				e.Payload = nil
			}
			out = append(out, entry{e, fmt.Sprint(err)})
		}
		return out
	}
	if diff := cmp.Diff(list(want), list(got)); diff != "" {
		t.Fatalf("%s differs from the model's (-model +store):\n%s", what, diff)
	}
}

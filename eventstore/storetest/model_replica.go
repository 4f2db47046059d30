package storetest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"pgregory.net/rapid"
)

// begin makes the logs of other sites. Their clocks are minutes apart from one another and from the one of now, so that events
// of two logs have the same order in the store as in the model, whose own events have other times.
func (m *model) begin() {
	for i, site := range []string{"far", "near"} {
		m.far = append(m.far, newFar(site, uint32(i+1), time.Now().Add(-15*time.Second-30*time.Second*time.Duration(40+i))))
	}
}

// elsewhere has another site take a request.
func (m *model) elsewhere(t *rapid.T) {
	l := rapid.SampledFrom(m.far).Draw(t, "site")
	l.now = l.now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes")) * time.Minute)
	r := m.draw(t, false)
	_, _ = l.Accept(r) // one that is refused leaves nothing to receive
	l.Sync()
}

// receive gives some batches of another site's log to both, whether they fit or not.
func (m *model) receive(t *rapid.T) {
	l := rapid.SampledFrom(m.far).Draw(t, "site")
	all := l.all()
	var begins []int
	for i := range all {
		if all[i].Batch.FirstSeq == all[i].Dot.Seq {
			begins = append(begins, i)
		}
	}
	if len(begins) == 0 {
		return
	}
	held := 0
	heads, err := m.want.Heads(m.f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heads {
		if h.Log == l.ID() {
			held, _ = slices.BinarySearch(begins, int(h.Seq))
		}
	}
	begins = append(begins, len(all))
	first := min(max(held+rapid.SampledFrom([]int{0, 0, 0, 0, -1, -2, 1}).Draw(t, "from"), 0), len(begins)-2)
	last := rapid.IntRange(first+1, min(first+4, len(begins)-1)).Draw(t, "to")
	events := slices.Clone(all[begins[first]:begins[last]])
	if rapid.IntRange(0, 9).Draw(t, "changed") == 0 {
		i := rapid.IntRange(0, len(events)-1).Draw(t, "which")
		if events[i].Dot.Seq <= uint64(begins[held]) { // what is not held is not known to be another
			events[i].Payload = []byte("changed")
		}
	}
	got, gotErr := m.f.replica().Receive(m.f.ctx, slices.Clone(events))
	want, wantErr := m.want.Receive(m.f.ctx, events)
	if got != want {
		t.Fatalf("received up to %s by the model (%v), to %s by the store (%v)", want, wantErr, got, gotErr)
	}
	m.sameError(t, gotErr, wantErr)
}

func (m *model) readOneLog(t *rapid.T) {
	l := rapid.SampledFrom(m.far).Draw(t, "site")
	log := rapid.SampledFrom([]eventstore.LogID{l.ID(), m.f.head().ID}).Draw(t, "log")
	after := rapid.Uint64Range(0, uint64(len(l.Events()))+1).Draw(t, "after")
	same(t, "one log", m.f.replica().ReadLog(m.f.ctx, log, after), m.want.ReadLog(m.f.ctx, log, after))
	got, gotHeld, err := m.f.replica().ChainAt(m.f.ctx, log, after)
	if err != nil {
		t.Fatal(err)
	}
	want, wantHeld, err := m.want.ChainAt(m.f.ctx, log, after)
	if err != nil {
		t.Fatal(err)
	}
	if gotHeld != wantHeld || log == l.ID() && got != want {
		t.Fatalf("chain of %s at seq %d: model says %x, %v; store says %x, %v", log, after, want[:8], wantHeld, got[:8], gotHeld)
	}
}

func (m *model) sameHeads(t *rapid.T, own eventstore.LogID) {
	got := m.f.heads()
	want, err := m.want.Heads(m.f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if want[i].Log == own && i < len(got) {
			want[i].HLC, want[i].Chain = got[i].HLC, got[i].Chain
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("heads differ from the model's (-model +store):\n%s", diff)
	}
}

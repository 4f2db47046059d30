package replication_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/replication"
)

// mendFromOthers is how a node mends its store.
func mendFromOthers(store *pebblestore.Store, site *replication.Site) func(context.Context, eventstore.LogID, uint64, uint64) (string, error) {
	return func(ctx context.Context, log eventstore.LogID, after, through uint64) (left string, err error) {
		o := pebblestore.ScrubOptions{}
		for _, h := range site.Holders() {
			o.Holders = append(o.Holders, h)
		}
		report, err := store.Mend(ctx, log, after, through, o)
		if err != nil {
			return "", err
		}
		for i := range report.Faults {
			if !report.Faults[i].Repaired {
				left = report.Faults[i].String()
			}
		}
		return left, nil
	}
}

// A pass finds all in which a store differs from another site's, to the last event, puts right what is proved to be wrong here, and leaves
// and names what nothing proves; where nothing differs it says nothing. Shows R31 and R30.
func TestPassesFindAndMend(t *testing.T) {
	const events = 10_050
	random := rand.New(rand.NewPCG(22, 23))
	bj := newOriginal(t, events, random)
	pass := func(c *replication.Comparer) replication.ComparerState {
		t.Helper()
		if err := c.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.State()
	}
	sound := bj.copied(t, func(*eventstore.Recorded) {})
	if s := pass(bj.comparer(t, sound, mendFromOthers)); len(s.Findings) > 0 || s.Events != events || s.Bytes*100 > uint64(bj.size) || len(s.Away) > 0 {
		t.Errorf("of two that are the same a pass says %+v", s)
	}

	dir := bj.copied(t, func(*eventstore.Recorded) {})
	flipLargestTable(t, dir)
	c := bj.comparer(t, dir, mendFromOthers)
	s := pass(c)
	if len(s.Findings) == 0 || len(s.Left()) > 0 || s.Repaired != uint64(len(s.Findings)) {
		t.Errorf("of a table that has rotted a pass says %+v", s)
	}
	if s = pass(c); len(s.Findings) > 0 || s.Events != events {
		t.Errorf("after the repair a pass says %+v", s)
	}

	// The last event is another one, with a chain of its own: nothing proves which is right.
	for _, mend := range []mending{
		mendFromOthers,
		func(*pebblestore.Store, *replication.Site) func(context.Context, eventstore.LogID, uint64, uint64) (string, error) {
			return func(context.Context, eventstore.LogID, uint64, uint64) (string, error) { return "", nil }
		},
	} {
		forked := bj.copied(t, func(e *eventstore.Recorded) {
			if e.Dot.Seq == events {
				e.Payload = append(slices.Clone(e.Payload), '!')
			}
		})
		s = pass(bj.comparer(t, forked, mend))
		if len(s.Left()) != 1 || s.Repaired > 0 {
			t.Fatalf("of another last event a pass says %+v", s)
		}
		if f := s.Left()[0]; f.Last != events || f.First > events || f.Last-f.First >= replication.FineEvents || !strings.Contains(f.String(), "the two have other events") {
			t.Errorf("another last event is found as %s", f.String())
		}
	}
}

// A difference stays on record while nobody can compare there, and until it is gone; what keeps one from being put right does not hide
// those behind it. R31.
func TestDifferencesStayUntilTheyAreGone(t *testing.T) {
	const events = 10_050
	bj := newOriginal(t, events, rand.New(rand.NewPCG(33, 33)))
	forked := bj.copied(t, func(e *eventstore.Recorded) {
		if e.Dot.Seq == 70 || e.Dot.Seq == events {
			e.Payload = append(slices.Clone(e.Payload), '!')
		}
	})
	broken := errors.New("the way to the events is damaged")
	c := bj.comparer(t, forked, func(*pebblestore.Store, *replication.Site) func(context.Context, eventstore.LogID, uint64, uint64) (string, error) {
		return func(_ context.Context, _ eventstore.LogID, after, _ uint64) (string, error) {
			if after < 100 {
				return "", broken
			}
			return "", nil
		}
	})
	pass := func(what string) {
		t.Helper()
		err := c.Pass(t.Context())
		s := c.State()
		if left := s.Left(); !errors.Is(err, bj.refuses) || len(left) != 2 || left[0].First > 70 || !strings.Contains(left[0].Left, broken.Error()) || left[1].Last != events {
			t.Errorf("%s: a pass says %+v (%v)", what, s, err)
		}
	}
	pass("two other events")
	bj.refuses = errors.New("the other site has trouble")
	pass("the other site cannot be asked")
	bj.refuses = nil
	pass("it can be asked again")
	bj.after = 5000
	bj.refuses = eventstore.ErrUnavailable
	pass("it goes away in the middle")
	bj.refuses = nil
	pass("at last")
}

// What cannot be read here is never said to be wrong at the other site.
func TestDamageHereIsNotBlamedOnOthers(t *testing.T) {
	bj := newOriginal(t, 200, rand.New(rand.NewPCG(34, 34)))
	store := &hindered{openStore(t, bj.copied(t, func(*eventstore.Recorded) {}), "sh"), 100, eventstore.ErrArchiveDamaged}
	c := replication.NewComparer(bj.other(t, store), replication.ComparerOptions{Mend: func(context.Context, eventstore.LogID, uint64, uint64) (string, error) { return "", nil }})
	_, found, err := c.Part(t.Context(), "bj", bj.log, 0, 1, true)
	if err != nil || len(found) != 1 || strings.Contains(found[0].Left, "wrong at site") || !strings.Contains(found[0].Left, "tributary archive verify") {
		t.Errorf("of a damaged archive here it is said %+v (%v)", found, err)
	}
}

// models is a site whose read models are of the events that it has heard of: each time that it is asked, of more.
type models struct {
	*asked
	at      uint64 // seq
	most    uint64
	digest  func(seq uint64) string
	refused string
}

// ModelDigests implements replication.ModelDigester.
func (m *models) ModelDigests(_ context.Context, at []eventstore.LogHead) (replication.ModelDigests, error) {
	if m.at < m.most {
		m.at++
	}
	for _, h := range at {
		m.at = max(m.at, min(h.Seq, m.most))
	}
	d := replication.ModelDigests{At: []eventstore.LogHead{{Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Seq: m.at}}}
	if m.refused != "" {
		d.Models = []replication.ModelDigest{{Model: "shop-redis", Err: m.refused}}
		return d, nil
	}
	d.Models = []replication.ModelDigest{{Model: "shop-redis", Part: "order", Digest: m.digest(m.at), Count: m.at}, {Model: "shop-redis", Part: "stock", Digest: "same", Count: 3}}
	return d, nil
}

// Read models are compared when both are of the same events, and then what differs is named; what cannot be read is no difference.
// Shows R32.
func TestModelsAreComparedAtOneMoment(t *testing.T) {
	bj := newOriginal(t, 100, rand.New(rand.NewPCG(1, 1)))
	of := func(seq uint64) string { return strings.Repeat("x", int(seq)) }
	compare := func(there *models, here *models) []replication.ModelComparison {
		t.Helper()
		there.asked = bj.asked
		site := runSite(t, "sh", openStore(t, bj.copied(t, func(*eventstore.Recorded) {}), "sh"), emptyTopic{}, map[string]replication.Peer{"bj": there})
		var all []replication.ModelComparison
		for up := false; !up; {
			var err error
			if all, err = site.CompareModels(t.Context(), here); err != nil {
				t.Fatal(err)
			}
			up = all[0].Model != "" // it has been heard
		}
		return all
	}
	for _, c := range compare(&models{most: 20, at: 9, digest: of}, &models{most: 20, digest: of}) {
		if c.Problem != "" || c.Away != "" || c.Here != c.There {
			t.Errorf("models that are the same are said to differ: %+v", c)
		}
	}
	all := compare(&models{most: 7, digest: func(uint64) string { return "another" }}, &models{most: 7, digest: of})
	if len(all) != 2 || all[0].Part != "order" || !strings.Contains(all[0].Problem, "rebuild shop-redis") || all[1].Problem != "" {
		t.Errorf("of a model that differs it is said %+v", all)
	}
	for _, c := range compare(&models{most: 7, digest: of, refused: "it is being rebuilt"}, &models{most: 7, digest: of}) {
		if c.Problem != "" || !strings.Contains(c.Away, "rebuilt") {
			t.Errorf("a model that cannot be read is said to differ: %+v", c)
		}
	}
}

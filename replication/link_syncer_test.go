package replication

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// The link to another site is a Syncer: healthy while the topic is followed, with what it lacks as its lag; from any time on it brings over
// the same, beside the call that the site makes by itself.
func TestLinkIsASyncer(t *testing.T) {
	r := newRig("a", "b")
	r.peers["a"]["b"].away.Store(true) // what the link does not bring nobody brings
	r.start(t, nil)
	r.peers["a"]["b"].away.Store(false)
	status := func() SyncerStatus {
		t.Helper()
		all := r.sites["a"].Syncers(t.Context())
		if len(all) != 1 || all[0].Name != "link b" {
			t.Fatalf("the syncers are %+v; want the link to b", all)
		}
		return all[0]
	}
	r.write(t, "b", "1", 10, 10)
	r.until(t, "the link is healthy and has brought what there is", func() bool { return status().Healthy && r.links["a"]["b"].brought.Load() == 10 })
	if s := status(); s.Calls != s.Failures+1 {
		t.Errorf("a link that follows has %+v", s)
	}

	r.links["a"]["b"].cut.Store(true)
	r.peers["a"]["b"].away.Store(true)
	before := status().Failures
	r.write(t, "b", "1", 10, 10)
	r.until(t, "the link fails", func() bool { s := status(); return !s.Healthy && s.Failures > before && s.LastError != "" })
	var l Syncer = &linkSyncer{r.sites["a"], "b"}
	if healthy, _ := l.HealthCheck(); healthy {
		t.Error("the syncer of a link that is cut is healthy")
	}
	r.links["a"]["b"].cut.Store(false)
	r.peers["a"]["b"].away.Store(false)
	r.until(t, "the link is healthy again", func() bool { healthy, _ := l.HealthCheck(); return healthy })

	log := eventstore.LogID{Site: "b", Incarnation: 1}
	behind := Overview{Lag: map[eventstore.LogID]time.Duration{log: time.Minute, {Site: "b", Incarnation: 2}: time.Second, {Site: "c", Incarnation: 1}: time.Hour}}
	if s := r.sites["a"].linkStatus(&behind, "b"); s.Lag != time.Minute {
		t.Errorf("the link lags by %s, one of its logs by 1m", s.Lag)
	}

	r.sites["a"].mu.Lock()
	r.sites["a"].spoken["b"] = time.Now().Add(-2 * time.Minute)
	r.sites["a"].mu.Unlock()
	if s := r.sites["a"].linkStatus(&behind, "b"); s.Lag < 2*time.Minute {
		t.Errorf("the link lags by %s, and its topic has been silent for 2m", s.Lag)
	}

	for _, from := range []int64{0, time.Now().UnixNano()} {
		r.links["a"]["b"].cut.Store(true)
		r.write(t, "b", "1", 1, 10) // a link that is cut finds that out when there is something
		if err := l.Sync(t.Context(), from); err == nil {
			t.Errorf("a link that is cut, from %d on, ends without an error", from)
		}
		r.links["a"]["b"].cut.Store(false)
	}
	r.until(t, "both sites hold the same", func() bool { return r.heads(t, "a") == r.heads(t, "b") })

	if err := r.sites["a"].Without(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if all := r.sites["a"].Syncers(t.Context()); len(all) > 0 {
		t.Errorf("of a site that has gone there is %+v", all)
	}
	if err := l.Sync(t.Context(), 0); err == nil {
		t.Error("the link to a site that has gone is followed")
	}
}

package kafkalog_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestFeedMadeAnewAndCut shows M6: a feed that is removed while its mirror writes, or while none does, or that comes back with only the
// first of its records, is filled again, and who reads it goes on.
func TestFeedMadeAnewAndCut(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newMixed(t)
		s.mix(t, 400)
		topic := feedOf(t, s)
		o := fastFeed(addr)
		o.Checkpoint = kafkalog.FileCheckpoint(filepath.Join(t.TempDir(), "feed.json"))
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		sub := subscribe(t, newFeedReader(t, addr, topic), eventstore.Position{}, eventstore.Filter{})
		at := head(t, s).Durable
		got := readFeedTo(t, sub, s, eventstore.Position{}, at)

		deleteTopic(t, addr, topic)
		eventually(t, "the mirror fills a new topic", func() bool { return m.Status().Events >= 2*at.LSN })
		s.mix(t, 50)
		waitFor(t, m.Mirror, s)
		sameFeed(t, addr, s)
		m.stop()
		got, at = append(got, readFeedTo(t, sub, s, at, head(t, s).Durable)...), head(t, s).Durable

		for _, keep := range []int{0, 1, 2, 57, 300} {
			records := rawRecords(t, addr, topic)
			deleteTopic(t, addr, topic)
			if keep > 0 {
				eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
				copyRecords(t, addr, topic, records[:keep]...)
			}
			s.mix(t, 10)
			m = runMirror(t, s, o)
			waitFor(t, m.Mirror, s)
			sameFeed(t, addr, s)
			m.stop()
		}
		got = append(got, readFeedTo(t, sub, s, at, head(t, s).Durable)...)
		sameInFeed(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
		if r := auditFeed(t, addr, s, ""); !r.OK() || r.Records != head(t, s).Durable.LSN {
			t.Errorf("report %+v", r)
		}
	})
}

// Retention, or somebody's hand, has removed all records of a feed; the offsets tell that they had been there.
func TestFeedEmptiedByRetention(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newMixed(t)
		s.mix(t, 200)
		topic, had := feedOf(t, s), head(t, s).Durable
		o := fastFeed(addr)
		path := filepath.Join(t.TempDir(), "feed.json")
		o.Checkpoint = kafkalog.FileCheckpoint(path)
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		m.stop()
		cutTopic(t, addr, topic, -1)

		s.mix(t, 10)
		end := head(t, s).Durable
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		m.stop()
		if n := m.Status().Events; n != end.LSN-had.LSN {
			t.Errorf("with its checkpoint the mirror wrote %d events, should write the %d new ones", n, end.LSN-had.LSN)
		}
		// Who was there goes on; who was not is told.
		r := newFeedReader(t, addr, topic)
		sameInFeed(t, stored(t, s, had, eventstore.Filter{}), readFeedTo(t, subscribe(t, r, had, eventstore.Filter{}), s, had, end))
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		if _, err := subscribe(t, r, eventstore.Position{}, eventstore.Filter{}).Next(ctx); !errors.Is(err, kafkalog.ErrGap) {
			t.Errorf("a reader from the first event on got %v", err)
		}

		cutTopic(t, addr, topic, -1)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		sameFeed(t, addr, s)
	})
}

// An idle feed ends with many heartbeats; they tell how far it has come, with the site's own log in it.
func TestFeedResumesBehindHeartbeats(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newMixed(t)
		o := fastFeed(addr)
		o.Heartbeat = time.Millisecond
		m := runMirror(t, s, o)
		eventually(t, "heartbeats before the first event", func() bool { return m.Status().Heartbeats > 50 })
		m.stop()
		m = runMirror(t, s, o)
		s.mix(t, 100)
		had := head(t, s)
		waitFor(t, m.Mirror, s)
		before := m.Status().Heartbeats
		eventually(t, "heartbeats", func() bool { return m.Status().Heartbeats > before+50 })
		m.stop()
		r := newFeedReader(t, addr, feedOf(t, s))
		if state, err := r.Log(t.Context()); err != nil || state.ID != had.ID || state.Seq != had.Seq || state.Durable != had.Durable {
			t.Errorf("feed says %+v, %v; the log is %+v", state, err, had)
		}
		s.mix(t, 100)
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		if n := m.Status().Events; n != head(t, s).Durable.LSN-had.Durable.LSN {
			t.Errorf("mirror wrote %d events, should write the %d new ones", n, head(t, s).Durable.LSN-had.Durable.LSN)
		}
		sameFeed(t, addr, s)
		got := readFeedTo(t, subscribe(t, r, had.Durable, eventstore.Filter{}), s, had.Durable, head(t, s).Durable)
		sameInFeed(t, stored(t, s, had.Durable, eventstore.Filter{}), got)
		if r := auditFeed(t, addr, s, ""); !r.OK() || r.Heartbeats < 100 {
			t.Errorf("report %+v", r)
		}
	})
}

// TestFeedOfAnotherHistory shows M7: a feed that is not of this log, in this order, is never continued.
func TestFeedOfAnotherHistory(t *testing.T) {
	addr := openEmbedded(t)
	for _, idle := range []bool{false, true} {
		o := fastFeed(addr)
		if o.Heartbeat = time.Hour; idle {
			o.Heartbeat = time.Millisecond
		}
		there := newMixed(t)
		there.mix(t, 100)
		m := runMirror(t, there, o)
		waitFor(t, m.Mirror, there)
		if n := m.Status().Heartbeats; idle {
			eventually(t, "a heartbeat after the events", func() bool { return m.Status().Heartbeats > n+1 })
		}
		m.stop()
		before := countEvents(t, addr, feedOf(t, there))

		for name, c := range map[string]struct {
			order func(id eventstore.LogID) []eventstore.LogID // of the logs whose events the other store has
			want  error
		}{
			"lost everything": {func(eventstore.LogID) []eventstore.LogID { return nil }, kafkalog.ErrBehind},
			"received in another order": {func(id eventstore.LogID) []eventstore.LogID {
				return []eventstore.LogID{head(t, there.other).ID, id}
			}, kafkalog.ErrForked},
		} {
			id := head(t, there).ID
			here := memstore.New(memstore.Options{LogID: id})
			defer here.Close()
			for _, log := range c.order(id) {
				if log != id {
					receiveFrom(t, here, there.other)
				}
				for log == id && head(t, here).Durable.LSN < head(t, there).Durable.LSN+20 {
					fill(t, here, 10)
				}
			}
			m := runMirror(t, here, o)
			<-m.done
			if err := m.end(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "offset") {
				t.Errorf("%s, idle %v: the mirror ended with %v, should with %v", name, idle, err, c.want)
			}
			if after := countEvents(t, addr, feedOf(t, there)); after != before {
				t.Errorf("%s: feed had %d events and has %d", name, before, after)
			}
		}
	}
}

// TestFeedOfAnotherLife shows M7: for another life of the log, which holds other events where the one before had some that were lost,
// the feed begins anew, however often its mirror is ended meanwhile. Readers of the life before are told, others see the new one alone.
func TestFeedOfAnotherLife(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		first := newMixed(t)
		first.mix(t, 300)
		o := fastFeed(addr)
		m := runMirror(t, first, o)
		waitFor(t, m.Mirror, first)
		was := head(t, first)
		old := subscribe(t, newFeedReader(t, addr, feedOf(t, first)), eventstore.Position{}, eventstore.Filter{})
		readFeedTo(t, old, first, eventstore.Position{}, was.Durable)
		m.stop()

		// It lost the end of the life before, and what it writes stands before what comes back of it.
		id := was.ID
		id.Incarnation = 3
		second := &mixed{Store: memstore.New(memstore.Options{LogID: id}), other: first.other}
		defer second.Close()
		second.mix(t, 200)
		receiveFrom(t, second, first.Store)
		second.mix(t, 100)
		small := o
		small.BatchBytes = 2 << 10
		for range 8 {
			m := runMirror(t, second, small)
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) // ended at any moment of its work
			m.stop()
		}
		m = runMirror(t, second, o)
		waitFor(t, m.Mirror, second)
		sameFeed(t, addr, second)
		if r := auditFeed(t, addr, second, ""); !r.OK() || r.Earlier != was.Durable.LSN || r.Records != head(t, second).Durable.LSN {
			t.Errorf("report %+v, want %d records of the life before", r, was.Durable.LSN)
		}

		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		if _, err := old.Next(ctx); !errors.Is(err, eventstore.ErrWrongIncarnation) {
			t.Errorf("who reads on is told %v", err)
		}
		r := newFeedReader(t, addr, feedOf(t, second))
		if _, err := subscribe(t, r, eventstore.Position{Incarnation: 1, LSN: 5}, eventstore.Filter{}).Next(ctx); !errors.Is(err, eventstore.ErrWrongIncarnation) {
			t.Errorf("who comes from the life before is told %v", err)
		}
		all := stored(t, second, eventstore.Position{}, eventstore.Filter{})
		end := head(t, second).Durable
		ends := batchEnds(all)
		for _, after := range []eventstore.Position{{}, ends[0], ends[len(ends)/2]} {
			sameInFeed(t, all[after.LSN:], readFeedTo(t, subscribe(t, r, after, eventstore.Filter{}), second, after, end))
		}

		// The older copy must not go on.
		stale := runMirror(t, first, o)
		<-stale.done
		if err := stale.end(); !errors.Is(err, kafkalog.ErrBehind) {
			t.Errorf("the mirror of the life before ended with %v", err)
		}
	})
}

// INVARIANT: whatever is changed in a record of a feed, audit names the event; what only a feed says is compared too.
func TestAuditOfAFeedFindsWhatIsPlanted(t *testing.T) {
	addr := openEmbedded(t)
	s := newMixed(t)
	for !slices.ContainsFunc(stored(t, s, eventstore.Position{}, eventstore.Filter{}), revises) {
		s.mix(t, 150)
	}
	all := stored(t, s, eventstore.Position{}, eventstore.Filter{})
	at := all[slices.IndexFunc(all, revises)].Position
	m := runMirror(t, s, fastFeed(addr))
	waitFor(t, m.Mirror, s)
	m.stop()
	list := []plant{
		changed("value of", func(r *kgo.Record) { r.Value[5] ^= 1 }),
		changed("key is", func(r *kgo.Record) { r.Key = append(r.Key, '0') }),
		changed("header tributary-own is", func(r *kgo.Record) { setHeader(r, "tributary-own", headerOf(r, "tributary-own")+"1") }),
		changed("header tributary-dot is", func(r *kgo.Record) { setHeader(r, "tributary-dot", headerOf(r, "tributary-dot")+"1") }),
		changed("header tributary-revises is missing", func(r *kgo.Record) {
			r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "tributary-revises" })
		}),
		{"missing", func(r []*kgo.Record, i int) []*kgo.Record { return slices.Delete(r, i, i+1) }, kafkalog.AuditReport{Missing: 1}, "is missing"},
		{"again", func(r []*kgo.Record, i int) []*kgo.Record { c := *r[i]; return append(r, &c) }, kafkalog.AuditReport{Duplicates: 1}, "is there again at offset"},
		{"late", func(r []*kgo.Record, i int) []*kgo.Record {
			late := r[i]
			return append(slices.Delete(r, i, i+1), late)
		}, kafkalog.AuditReport{OutOfOrder: 1}, "stands too late"},
	}
	for i, p := range list {
		t.Run(p.name, func(t *testing.T) {
			records := rawRecords(t, addr, feedOf(t, s))
			place := slices.IndexFunc(records, func(r *kgo.Record) bool {
				return headerOf(r, "tributary-dot") != "" && headerOf(r, "tributary-position") == at.String()
			})
			topic := feedOf(t, s) + ".p" + string(rune('a'+i))
			makeTopic(t, addr, topic, nil)
			copyRecords(t, addr, topic, p.change(records, place)...)
			r := auditFeed(t, addr, s, topic)
			p.want.Records = head(t, s).Durable.LSN - p.want.Missing
			if r.OK() || !equalCounts(r, p.want) {
				t.Errorf("counted %+v, should %+v", r, p.want)
			}
			if !slices.ContainsFunc(r.Faults, func(f string) bool {
				return strings.Contains(f, "event "+at.String()+" ") && strings.Contains(f, p.tells)
			}) {
				t.Errorf("no fault tells of event %s that %q: %q", at, p.tells, r.Faults)
			}
		})
	}
}

func revises(e eventstore.Recorded) bool { return e.Revises }

// TestFeedReaderStopsAtWhatIsWrong shows M6: an event that is missing, or is not what it was, is not read over.
func TestFeedReaderStopsAtWhatIsWrong(t *testing.T) {
	addr := openEmbedded(t)
	s := newMixed(t)
	s.mix(t, 150)
	m := runMirror(t, s, fastFeed(addr))
	waitFor(t, m.Mirror, s)
	n := m.Status().Heartbeats
	eventually(t, "a heartbeat at the end", func() bool { return m.Status().Heartbeats > n })
	m.stop()
	var at eventstore.Position
	for _, e := range stored(t, s, eventstore.Position{}, eventstore.Filter{})[80:] {
		if e.Dot.Log.Site != head(t, s).ID.Site { // the other site's, in the middle
			at = e.Position
			break
		}
	}
	for i, c := range []struct {
		name   string
		change func(r []*kgo.Record, i int) []*kgo.Record
		want   error
	}{
		{"missing", func(r []*kgo.Record, i int) []*kgo.Record { return slices.Delete(r, i, i+1) }, kafkalog.ErrGap},
		{"missing at the end, told by a heartbeat", func(r []*kgo.Record, i int) []*kgo.Record {
			last := len(r) - 1
			for headerOf(r[last], "tributary-record") != "heartbeat" {
				last--
			}
			return append(r[:i:i], r[last])
		}, kafkalog.ErrGap},
		{"changed", func(r []*kgo.Record, i int) []*kgo.Record { r[i].Value[3] ^= 1; return r }, eventstore.ErrCorrupt},
		{"not of a feed", func(r []*kgo.Record, i int) []*kgo.Record {
			r[i].Headers = slices.DeleteFunc(r[i].Headers, func(h kgo.RecordHeader) bool { return h.Key == "tributary-own" })
			return r
		}, eventstore.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			records := rawRecords(t, addr, feedOf(t, s))
			place := slices.IndexFunc(records, func(r *kgo.Record) bool {
				return headerOf(r, "tributary-dot") != "" && headerOf(r, "tributary-position") == at.String()
			})
			topic := feedOf(t, s) + ".w" + string(rune('a'+i))
			makeTopic(t, addr, topic, map[string]string{"retention.ms": "-1"})
			copyRecords(t, addr, topic, c.change(records, place)...)
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			sub := subscribe(t, newFeedReader(t, addr, topic), eventstore.Position{}, eventstore.Filter{MaxChunk: 1})
			var seen uint64
			for {
				chunk, err := sub.Next(ctx)
				if err != nil {
					if !errors.Is(err, c.want) {
						t.Fatalf("reader ended with %v, should with %v", err, c.want)
					}
					break
				}
				seen = chunk.Position.LSN
			}
			if seen >= at.LSN || seen+10 < at.LSN {
				t.Errorf("reader came to lsn %d, should to the batch before %d", seen, at.LSN)
			}
		})
	}
}

// INVARIANT: what a feed repeats is read once, from the middle of an append too.
func TestFeedReaderDropsRepetitions(t *testing.T) {
	addr := openEmbedded(t)
	s := newMixed(t)
	s.mix(t, 150)
	m := runMirror(t, s, fastFeed(addr))
	waitFor(t, m.Mirror, s)
	m.stop()
	records := rawRecords(t, addr, feedOf(t, s))
	topic := feedOf(t, s) + ".again"
	makeTopic(t, addr, topic, map[string]string{"retention.ms": "-1"})
	var again []*kgo.Record
	for i, r := range records { // each twice, and some once more later
		twice, late := *r, *records[max(0, i-20)]
		if again = append(again, r, &twice); i%10 == 0 {
			again = append(again, &late)
		}
	}
	copyRecords(t, addr, topic, again...)
	got := readFeedTo(t, subscribe(t, newFeedReader(t, addr, topic), eventstore.Position{}, eventstore.Filter{}), s, eventstore.Position{}, head(t, s).Durable)
	sameInFeed(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
}

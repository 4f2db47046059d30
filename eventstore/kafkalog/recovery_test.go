package kafkalog_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/twmb/franz-go/pkg/kgo"
)

// recovered makes a store of what a topic has, and returns it with what was read.
func recovered(t testing.TB, addr string, log eventstore.LogID, topic string) (*pebblestore.Store, kafkalog.Recovery) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	read, err := tryRecover(t, addr, log, topic, dir)
	if err != nil {
		t.Fatal(err)
	}
	return openStore(t, dir), read
}

func tryRecover(t testing.TB, addr string, log eventstore.LogID, topic, dir string) (kafkalog.Recovery, error) {
	t.Helper()
	o := fast(addr)
	o.Topic = topic
	r, err := kafkalog.Recover(t.Context(), log, o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pebblestore.RestoreEvents(t.Context(), r.Batches(t.Context(), nil), dir, pebblestore.RestoreOptions{
		Store: &pebblestore.Options{Site: log.Site, Logger: slog.New(slog.DiscardHandler)}, Claim: r.Claim,
	})
	return *r, err
}

func openStore(t testing.TB, dir string) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(dir, &pebblestore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// inLife returns the events under positions of another life.
func inLife(events []eventstore.Recorded, incarnation uint32) []eventstore.Recorded {
	out := make([]eventstore.Recorded, len(events))
	for i, e := range events {
		e.Position.Incarnation = incarnation
		out[i] = e
	}
	return out
}

// readAllOf reads a topic from its beginning to a position.
func readAllOf(t testing.TB, addr, topic string, to eventstore.Position) (all []eventstore.Recorded) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	sub := subscribe(t, newReader(t, addr, topic), eventstore.Position{}, eventstore.Filter{})
	for {
		chunk, err := sub.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, chunk.Events...)
		own := uint64(0)
		if n := len(chunk.Events); n > 0 && chunk.Events[n-1].Dot.Log.Incarnation == chunk.Position.Incarnation {
			own = chunk.Events[n-1].Dot.Seq
		}
		if chunk.Seq != own && len(chunk.Events) > 0 {
			t.Fatalf("chunk up to %s says own seq %d, want %d", chunk.Position, chunk.Seq, own)
		}
		if chunk.Position == to {
			return all
		}
	}
}

// A log that is lost comes back from its topic as it was, in a new life; the mirror goes on in the same topic, whose readers
// see one log; and all of that again, life after life. Mirrors of earlier lives do not come back. It is T37 of
// docs/reliability.md, and shows S17, S18 and M3.
func TestLogComesBackFromItsTopic(t *testing.T) {
	lives := uint32(4)
	if *reliability.Long {
		lives = 20
	}
	onBrokers(t, func(t *testing.T, addr string) {
		result := reliability.Result{Test: "T37", What: "a log restored from its topic, life after life: " + t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]}
		first := newStore(t)
		fill(t, first, 300)
		m := runMirror(t, first, fast(addr))
		waitFor(t, m.Mirror, first)
		topic, log := topicOf(t, first), head(t, first).ID
		want := stored(t, first, eventstore.Position{}, eventstore.Filter{})
		var earlier eventstore.Reader = first
		for life := uint32(2); life <= lives; life++ {
			s, read := recovered(t, addr, log, topic)
			if int(read.Events) != len(want) || read.Torn+read.Foreign+read.Repeated > 0 {
				t.Fatalf("life %d: read %+v, want %d events", life, read, len(want))
			}
			state := head(t, s)
			if state.ID.Incarnation != life || state.Seq != 0 || state.Chain != eventstore.ChainStart(state.ID) {
				t.Fatalf("life %d: the log is %s, at seq %d", life, state.ID, state.Seq)
			}
			sameEvents(t, inLife(want, life), stored(t, s, eventstore.Position{}, eventstore.Filter{}))
			if life == 2 {
				// The mirror of the life before was fenced, while it ran, by the reading alone.
				append1(t, first, 1)
				if err := m.end(); !errors.Is(err, kafkalog.ErrFenced) && err != nil {
					t.Errorf("mirror of the first life ended with %v", err)
				}
			}
			old := runMirror(t, earlier, fast(addr))
			<-old.done
			if err := old.end(); !errors.Is(err, kafkalog.ErrBehind) {
				t.Errorf("a mirror of life %d that comes back ended with %v, want %v", life-1, err, kafkalog.ErrBehind)
			}
			next := runMirror(t, s, fast(addr))
			fill(t, s, 50)
			waitFor(t, next.Mirror, s)
			if status := next.Status(); status.Lag != 0 || status.Events != 50 {
				t.Errorf("life %d: the mirror published %d events, want the 50 new ones; it lags by %d", life, status.Events, status.Lag)
			}
			next.stop()
			state = head(t, s)
			if r := audit(t, addr, s, topic); !r.OK() || r.Records != uint64(len(want)+50) {
				t.Errorf("life %d: audit: %+v", life, r)
			}
			all := stored(t, s, eventstore.Position{}, eventstore.Filter{})
			sameEvents(t, all, readAllOf(t, addr, topic, state.Durable))
			if got, err := newReader(t, addr, topic).Log(t.Context()); err != nil || got.ID != state.ID || got.Durable != state.Durable || got.Seq != 50 {
				t.Errorf("life %d: the topic tells of %+v, %v; the log is %+v", life, got, err, state)
			}
			sub := subscribe(t, newReader(t, addr, topic), eventstore.Position{Incarnation: life - 1, LSN: 5}, eventstore.Filter{})
			if _, err := sub.Next(t.Context()); !errors.Is(err, eventstore.ErrWrongIncarnation) {
				t.Errorf("life %d: a reader of the life before: %v, want %v", life, err, eventstore.ErrWrongIncarnation)
			}
			report, err := s.Verify(t.Context(), nil)
			if err != nil || len(report.Faults) > 0 {
				t.Errorf("life %d: verify: %v, %v", life, report.Faults, err)
			}
			want, earlier = all, s
			result.Cycles++
		}
		result.Extra = map[string]any{"events": len(want)}
		result.Print(t)
	})
}

// Of a batch that the topic has a part of nothing is restored; the mirror goes on behind it, and neither readers nor the
// audit take it for events.
func TestTornBatchIsLeftOut(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		first := newStore(t)
		fill(t, first, 40)
		append1(t, first, 5)
		for _, tail := range []struct {
			name string
			more int // records behind the torn batch
		}{{"an event", 0}, {"a heartbeat", 1}} {
			t.Run("behind it "+tail.name, func(t *testing.T) {
				var records []*kgo.Record
				topic := rewritten(t, addr, first, func(r []*kgo.Record) []*kgo.Record {
					end := place(t, r, first, 43) + 1
					records = r[:end:end]
					if tail.more > 0 {
						// A heartbeat as it may stand in the middle of a batch.
						beat := *r[len(r)-1]
						beat.Headers = append([]kgo.RecordHeader{}, beat.Headers...)
						setHeader(&beat, "tributary-mirrored", eventstore.Dot{Log: head(t, first).ID, Seq: 43}.String())
						setHeader(&beat, "tributary-mirrored-at", "1-43")
						setHeader(&beat, "tributary-position", "1-43")
						records = append(records, &beat)
					}
					return records
				})
				defer deleteTopic(t, addr, topic)
				s, read := recovered(t, addr, head(t, first).ID, topic)
				if read.Events != 40 || read.Torn != 3 {
					t.Fatalf("read %+v, want 40 events and 3 of a torn batch", read)
				}
				o := fast(addr)
				o.Topic = topic
				m := runMirror(t, s, o)
				fill(t, s, 30)
				waitFor(t, m.Mirror, s)
				m.stop()
				if r := audit(t, addr, s, topic); !r.OK() || r.Records != 70 || r.Torn != 3 {
					t.Errorf("audit: %+v", r)
				}
				sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), readAllOf(t, addr, topic, head(t, s).Durable))
				again, read := recovered(t, addr, head(t, first).ID, topic)
				if read.Events != 70 || read.Torn != 3 {
					t.Errorf("read again %+v, want 70 events and 3 of a torn batch", read)
				}
				if diff := cmp.Diff(head(t, again).Durable.LSN, uint64(70)); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
}

// A topic that does not hold the whole log, or another one, gives no store.
func TestIncompleteTopicGivesNoStore(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 100)
		for name, c := range map[string]struct {
			change func(r []*kgo.Record) []*kgo.Record
			want   error
		}{
			"without its beginning": {func(r []*kgo.Record) []*kgo.Record { return r[place(t, r, s, 2):] }, kafkalog.ErrGap},
			"without its middle": {func(r []*kgo.Record) []*kgo.Record {
				i := place(t, r, s, 50)
				return append(r[:i:i], r[i+1:]...)
			}, kafkalog.ErrGap},
			"with a changed payload": {func(r []*kgo.Record) []*kgo.Record {
				x := *r[place(t, r, s, 50)]
				x.Value = append([]byte(" "), x.Value...)
				r[place(t, r, s, 50)] = &x
				return r
			}, eventstore.ErrCorrupt},
			"with another chain": {func(r []*kgo.Record) []*kgo.Record {
				i := slices.IndexFunc(r, func(r *kgo.Record) bool { return headerOf(r, "tributary-chain") != "" })
				if i < 0 {
					t.Fatal("the topic has no heartbeat")
				}
				x := *r[i]
				x.Headers = append([]kgo.RecordHeader{}, x.Headers...)
				setHeader(&x, "tributary-mirrored", eventstore.Dot{Log: head(t, s).ID, Seq: 100}.String())
				setHeader(&x, "tributary-mirrored-at", "1-100")
				setHeader(&x, "tributary-position", "1-100")
				setHeader(&x, "tributary-chain", anotherChain)
				return append(r, &x)
			}, eventstore.ErrCorrupt},
			"without events": {func(r []*kgo.Record) []*kgo.Record { return nil }, eventstore.ErrNotFound},
		} {
			t.Run(name, func(t *testing.T) {
				topic := rewritten(t, addr, s, c.change)
				defer deleteTopic(t, addr, topic)
				dir := filepath.Join(t.TempDir(), "store")
				if _, err := tryRecover(t, addr, head(t, s).ID, topic, dir); !errors.Is(err, c.want) {
					t.Fatalf("restore: %v, want %v", err, c.want)
				}
				if _, err := pebblestore.Open(dir, nil); !errors.Is(err, pebblestore.ErrUnfinished) {
					t.Errorf("open of what is left: %v, want %v", err, pebblestore.ErrUnfinished)
				}
			})
		}
		if _, err := kafkalog.Recover(t.Context(), eventstore.LogID{Site: "nowhere"}, fast(addr)); !errors.Is(err, eventstore.ErrNotFound) {
			t.Errorf("recover from a topic that is not there: %v", err)
		}
	})
}

const anotherChain = "0102030405060708090a0b0c0d0e0f100102030405060708090a0b0c0d0e0f10"

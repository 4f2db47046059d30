package redisview_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/redisview"
)

// everywhere runs a test against both servers. Each call of server gives the address of an empty one.
func everywhere(t *testing.T, test func(t *testing.T, address string)) {
	t.Run("embedded", func(t *testing.T) { test(t, embeddedServer(t)) })
	t.Run("real", func(t *testing.T) { test(t, testenv.Redis(t).Addr()) })
}

// newView returns a view of a projection that is closed with the test.
func newView(t testing.TB, c *redisview.Client, p projections.Projection[projections.Keys]) *redisview.View {
	t.Helper()
	v := redisview.New(c, p, redisview.Options{})
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// filled returns a view that has all of the log.
func filled(t testing.TB, c *redisview.Client, log *memstore.Store) *redisview.View {
	t.Helper()
	v := newView(t, c, orders())
	if err := projections.Replay(t.Context(), log, v, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	return v
}

// random is a projection that writes at random, the same for the same event, so that all kinds of writes meet on few keys.
func random(seed uint64) projections.Projection[projections.Keys] {
	return projections.Projection[projections.Keys]{
		Name: "random", Version: 1, Types: []string{"random.v1"},
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			r := rand.New(rand.NewPCG(seed, e.Position.LSN))
			for range 1 + r.IntN(12) {
				n := strconv.Itoa(r.IntN(4))
				field := strconv.Itoa(r.IntN(3))
				switch r.IntN(11) {
				case 0:
					w.Set("s"+n, []byte(strings.Repeat("\x00é\r\n", r.IntN(4))))
				case 1:
					w.Delete([]string{"s", "h", "z", "n"}[r.IntN(4)] + n)
				case 2, 3:
					w.HashSet("h"+n, field, fmt.Sprint(r.Int64()))
				case 4:
					w.HashDelete("h"+n, field)
				case 5:
					w.HashDelete("n"+n, field)
				case 6:
					w.HashAdd("n"+n, field, r.Int64N(2000)-1000)
				case 7:
					w.HashSet("n"+n, field, fmt.Sprint(r.Int64N(2000)-1000))
				case 8, 9:
					score := []float64{r.NormFloat64() * 1e9, 1 / 3.0, 0, -0.5, 1e300, 5e-324, float64(r.Int64())}[r.IntN(7)]
					w.SortedAdd("z"+n, "member "+field, score)
				default:
					w.SortedRemove("z"+n, "member "+field)
				}
			}
			if r.IntN(50) == 0 {
				return errors.New("unlucky")
			}
			return nil
		},
	}
}

// TestSameAsInMemory writes at random in batches of random size, and wants what memory has after each.
func TestSameAsInMemory(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		c := dial(t, address)
		for seed := range uint64(6) {
			flush(t, address)
			log := memstore.New(memstore.Options{})
			for i := range 400 {
				if _, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
					Stream: eventstore.Stream("r", strconv.Itoa(i%60)), Events: []eventstore.Event{{Type: "random.v1"}},
				}}}); err != nil {
					t.Fatal(err)
				}
			}
			view, memory := newView(t, c, random(seed)), memview.NewKeys(random(seed))
			sizes := rand.New(rand.NewPCG(seed, 0))
			for at := uint64(0); at < 400; {
				at = min(400, at+1+sizes.Uint64N(40))
				to := projections.Cursor{Position: eventstore.Position{Incarnation: 1, LSN: at}, Seq: at}
				for _, sink := range []projections.Sink{view, memory} {
					if err := projections.Replay(t.Context(), log, sink, to); err != nil {
						t.Fatal(err)
					}
				}
				faults, err := view.Diff(t.Context(), memory)
				if err != nil || len(faults) > 0 {
					t.Fatalf("seed %d, after %d events: %v, %v", seed, at, faults, err)
				}
				ours, _ := memory.Digest(t.Context())
				if theirs, err := view.Digest(t.Context()); err != nil || theirs != ours {
					t.Fatalf("seed %d, after %d events: the digest is %s, %v, in memory %s", seed, at, theirs, err, ours)
				}
			}
			parked, err := view.Parked(t.Context())
			want, _ := memory.Parked(t.Context())
			if diff := cmp.Diff(want, parked); diff != "" || err != nil || len(parked) == 0 {
				t.Errorf("seed %d: parked events differ: %v\n%s", seed, err, diff)
			}
		}
	})
}

func TestReads(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		c := dial(t, address)
		p := projections.Projection[projections.Keys]{
			Name: "reads", Version: 1, Types: []string{"x.v1"},
			Apply: func(w projections.Keys, _ *eventstore.Recorded) error {
				w.Set("text", []byte("a\x00b"))
				w.Set("empty", nil)
				w.HashSet("hash", "f", "1")
				w.HashSet("hash", "g", "")
				for i, member := range []string{"b", "a", "d", "c", "e"} {
					w.SortedAdd("sorted", member, float64(i/2)) // b a | d c | e
				}
				return nil
			},
		}
		log := memstore.New(memstore.Options{})
		if _, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("x", "1"), Events: []eventstore.Event{{Type: "x.v1"}},
		}}}); err != nil {
			t.Fatal(err)
		}
		view, memory := newView(t, c, p), memview.NewKeys(p)

		if _, err := view.Get(t.Context(), "text"); !errors.Is(err, projections.ErrRebuilding) {
			t.Errorf("before there is a model: %v, want ErrRebuilding", err)
		}
		for _, sink := range []projections.Sink{view, memory} {
			if err := projections.Replay(t.Context(), log, sink, projections.Cursor{}); err != nil {
				t.Fatal(err)
			}
		}
		type reader interface {
			Get(ctx context.Context, key string) ([]byte, error)
			Hash(ctx context.Context, key string) (map[string]string, error)
			HashField(ctx context.Context, key, field string) (string, error)
			SortedPage(ctx context.Context, key string, offset, limit int) (members []string, total int, err error)
			Hashes(ctx context.Context, keys []string, fields ...string) ([]map[string]string, error)
		}
		for name, r := range map[string]reader{"redis": view, "memory": memory} {
			check := func(what string, got, want any, err error) {
				t.Helper()
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("%s: %s: %v\n%s", name, what, err, diff)
				}
			}
			text, err := r.Get(t.Context(), "text")
			check("Get", string(text), "a\x00b", err)
			empty, err := r.Get(t.Context(), "empty")
			check("Get of an empty string", len(empty), 0, err)
			many, err := r.Hashes(t.Context(), []string{"nope", "hash"}, "g", "f", "none")
			check("Hashes", many, []map[string]string{{}, {"f": "1", "g": ""}}, err)
			many, err = r.Hashes(t.Context(), nil, "f")
			check("Hashes of no key", len(many), 0, err)
			if _, err := r.Hashes(t.Context(), []string{"hash", "text"}, "f"); err == nil {
				t.Errorf("%s: Hashes took a string for a hash", name)
			}
			hash, err := r.Hash(t.Context(), "hash")
			check("Hash", hash, map[string]string{"f": "1", "g": ""}, err)
			field, err := r.HashField(t.Context(), "hash", "g")
			check("HashField", field, "", err)
			page, total, err := r.SortedPage(t.Context(), "sorted", 1, 3)
			check("SortedPage", page, []string{"d", "c", "b"}, err)
			check("SortedPage's total", total, 5, err)
			page, _, err = r.SortedPage(t.Context(), "sorted", 4, 100)
			check("last SortedPage", page, []string{"a"}, err)
			page, total, err = r.SortedPage(t.Context(), "sorted", 9, 3)
			check("SortedPage behind the end", len(page)*10+total, 5, err)
			page, total, err = r.SortedPage(t.Context(), "nope", 0, 3)
			check("SortedPage of an absent key", len(page)+total, 0, err)

			_, err1 := r.Get(t.Context(), "nope")
			_, err2 := r.Hash(t.Context(), "nope")
			_, err3 := r.HashField(t.Context(), "hash", "nope")
			_, err4 := r.HashField(t.Context(), "nope", "nope")
			for i, err := range []error{err1, err2, err3, err4} {
				if !errors.Is(err, projections.ErrNotFound) {
					t.Errorf("%s: absent thing %d: %v, want ErrNotFound", name, i, err)
				}
			}
			if _, err := r.Get(t.Context(), "hash"); err == nil || errors.Is(err, projections.ErrNotFound) || errors.Is(err, projections.ErrUnavailable) {
				t.Errorf("%s: Get of a hash: %v, want an error of its own", name, err)
			}
		}
		flush(t, address)
		if _, err := view.Get(t.Context(), "text"); !errors.Is(err, projections.ErrRebuilding) {
			t.Errorf("of a server that was emptied: %v, want ErrRebuilding", err)
		}
	})
}

func TestReadsOfAServerThatIsGone(t *testing.T) {
	srv := testenv.Redis(t)
	c := dial(t, srv.Addr())
	view := filled(t, c, shop(t, 3))
	srv.Kill()
	_, err := view.Hash(t.Context(), "order:536365")
	if !errors.Is(err, projections.ErrUnavailable) || !strings.Contains(err.Error(), srv.Addr()) {
		t.Errorf("read: %v, want ErrUnavailable with the address", err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, projections.ErrUnavailable) {
		t.Errorf("Ping: %v, want ErrUnavailable", err)
	}
	if eventstore.ClassOf(err) != eventstore.Transient {
		t.Error("a server that is gone is not transient")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if _, err := view.Hash(ctx, "order:536365"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read when the caller's time is over: %v, want its own error", err)
	}
}

func TestDiffNamesWhatWasChangedByHand(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		log := shop(t, 50)
		c := dial(t, address)
		view := filled(t, c, log)
		same(t, log, view)
		generation, err := view.Generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := memview.NewKeys(orders())
		if err := projections.Replay(t.Context(), log, want, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		sound, err := view.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		model := fmt.Sprintf("tributary:orders:%d:", generation)
		raw, ctx := c.Raw(), t.Context()
		for _, test := range []struct {
			change, undo func() error
			says         []string
		}{
			{
				func() error { return raw.HSet(ctx, model+"order:536370", "status", "lost").Err() },
				func() error { return raw.HSet(ctx, model+"order:536370", "status", "shipped").Err() },
				[]string{model + "order:536370", `"status"`, `"lost"`, `"shipped"`},
			},
			{
				func() error { return raw.HDel(ctx, model+"status", "created").Err() },
				func() error { return raw.HSet(ctx, model+"status", "created", "0").Err() },
				[]string{model + "status", `field "created" is missing`},
			},
			{
				func() error { return raw.ZIncrBy(ctx, model+"customer:12003", 1, "536368").Err() },
				func() error { return raw.ZIncrBy(ctx, model+"customer:12003", -1, "536368").Err() },
				[]string{model + "customer:12003", `member "536368"`},
			},
			{
				func() error { return raw.RPush(ctx, model+"extra", "x").Err() },
				func() error { return raw.Del(ctx, model+"extra").Err() },
				[]string{model + "extra", "should not be there"},
			},
			{
				func() error { return raw.Rename(ctx, model+"order:536371", "away").Err() },
				func() error { return raw.Rename(ctx, "away", model+"order:536371").Err() },
				[]string{model + "order:536371", "is missing"},
			},
			{
				func() error {
					return errors.Join(raw.Rename(ctx, model+"order:536372", "away").Err(), raw.Set(ctx, model+"order:536372", "x", 0).Err())
				},
				func() error { return raw.Rename(ctx, "away", model+"order:536372").Err() },
				[]string{model + "order:536372", "is a string, should be a hash"},
			},
		} {
			if err := test.change(); err != nil {
				t.Fatal(err)
			}
			faults, err := view.Diff(ctx, want)
			if err != nil || len(faults) != 1 {
				t.Errorf("Diff names %q, %v, want one key: %s", faults, err, test.says)
			} else {
				for _, part := range test.says {
					if !strings.Contains(faults[0], part) {
						t.Errorf("Diff says %q, not %q", faults[0], part)
					}
				}
			}
			if digest, err := view.Digest(ctx); err != nil || digest == sound {
				t.Errorf("the digest does not show the change that Diff calls %q, %v", faults, err)
			}
			if err := test.undo(); err != nil {
				t.Fatal(err)
			}
		}
		same(t, log, view)
	})
}

// TestKeyOfAnotherKind: a key that somebody made into another kind cannot take a write. The model is given up and filled
// again, rather than left with a hole.
func TestKeyOfAnotherKind(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		log := shop(t, 50)
		c := dial(t, address)
		view := newView(t, c, orders())
		runner := projections.NewRunner(log, view, projections.Options{
			CheckEvery: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- runner.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
		wait := func() {
			t.Helper()
			head, err := log.Log(ctx)
			if err != nil {
				t.Fatal(err)
			}
			waiting, stop := context.WithTimeout(ctx, time.Minute)
			defer stop()
			if err := runner.Await(waiting, head.Durable); err != nil {
				t.Fatalf("%v; status %+v", err, runner.Status())
			}
		}
		wait()
		generation, err := view.Generation(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Raw().Set(ctx, fmt.Sprintf("tributary:orders:%d:status", generation), "nonsense", 0).Err(); err != nil {
			t.Fatal(err)
		}
		addOrders(t, log, 50, 100)
		until(t, runner, "filled again", func(s projections.Status, _ int) bool { return s.Rebuilds == 2 })
		wait()
		same(t, log, view)
		if s := runner.Status(); !strings.Contains(s.LastError, "WRONGTYPE") {
			t.Errorf("the status does not say why: %+v", s)
		}
	})
}

// flushBetween empties the server after a transaction has begun to watch and before it is carried out.
type flushBetween struct {
	crash
	armed bool
	flush func()
}

func (f *flushBetween) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f *flushBetween) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if f.armed && cmds[0].Name() == "multi" {
			f.armed = false
			f.flush()
		}
		return next(ctx, cmds)
	}
}

func TestFlushedInTheMiddleOfACommit(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		log := shop(t, 50)
		c := dial(t, address)
		hook := &flushBetween{flush: func() { flush(t, address) }}
		c.AddHook(hook)
		view := filled(t, c, log)
		addOrders(t, log, 50, 60)
		hook.armed = true
		if err := projections.Replay(t.Context(), log, view, projections.Cursor{}); !errors.Is(err, projections.ErrNoCursor) {
			t.Fatalf("commit: %v, want ErrNoCursor", err)
		}
		if at, err := view.Open(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
			t.Errorf("Open: %s, %v, want ErrNoCursor", at, err)
		}
		if _, err := view.Hash(t.Context(), "order:536365"); !errors.Is(err, projections.ErrRebuilding) {
			t.Errorf("read: %v, want ErrRebuilding", err)
		}
		if err := projections.Replay(t.Context(), log, view, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		same(t, log, view)
	})
}

func TestOldGenerationsAreSweptAndReadersFollow(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		log := shop(t, 300)
		c := dial(t, address)
		view, reader := filled(t, c, log), newView(t, dial(t, address), orders())
		for range 3 {
			if _, err := reader.Hash(t.Context(), "order:536365"); err != nil {
				t.Fatal(err)
			}
			before, after, err := projections.Rebuild(t.Context(), log, view, projections.Options{}, nil)
			if err != nil || before != after {
				t.Fatalf("Rebuild: %s, %s, %v", before, after, err)
			}
		}
		if _, err := reader.Hash(t.Context(), "order:536365"); err != nil {
			t.Errorf("a reader does not find the new generation: %v", err)
		}
		given, err := view.Beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := given.Discard(t.Context()); err != nil {
			t.Fatal(err)
		}
		view.Swept()
		generation, err := view.Generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		keys, err := c.Raw().Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		keys = slices.DeleteFunc(keys, func(key string) bool {
			return strings.HasPrefix(key, fmt.Sprintf("tributary:orders:%d:", generation))
		})
		slices.Sort(keys)
		if diff := cmp.Diff([]string{"tributary:orders:cursor", "tributary:orders:generations"}, keys); diff != "" {
			t.Errorf("beside the live model there are\n%s", diff)
		}
		same(t, log, view)
	})
}

// TestKeysAsDocumented keeps docs/redis.md true: what it says of keys, fields and forms.
func TestKeysAsDocumented(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		log := memstore.New(memstore.Options{})
		c := dial(t, address)
		p := orders()
		fold := p.Apply
		p.Apply = func(w projections.Keys, e *eventstore.Recorded) error {
			if e.Stream.ID == "bad" {
				return errors.New("cannot be")
			}
			return fold(w, e)
		}
		for _, id := range []string{"536365", "bad"} {
			if _, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", id), Events: []eventstore.Event{{Type: p.Types[0], Payload: []byte("17850")}},
			}}}); err != nil {
				t.Fatal(err)
			}
		}
		view := newView(t, c, p)
		if err := projections.Replay(t.Context(), log, view, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		raw, ctx := c.Raw(), t.Context()
		cursor, err := raw.HGetAll(ctx, "tributary:orders:cursor").Result()
		if err != nil {
			t.Fatal(err)
		}
		generation := cursor["generation"]
		want := map[string]string{"generation": generation, "version": "1", "position": "1-2", "seq": "2", "edits": "0"}
		if diff := cmp.Diff(want, cursor); diff != "" || generation == "" {
			t.Errorf("the cursor is not as documented\n%s", diff)
		}
		order, err := raw.HGetAll(ctx, "tributary:orders:"+generation+":order:536365").Result()
		if err != nil || order["status"] != "created" {
			t.Errorf("the order is %v, %v", order, err)
		}
		parked, err := raw.HGetAll(ctx, "tributary:orders:parked:"+generation).Result()
		if err != nil || len(parked) != 1 {
			t.Fatalf("parked events are %v, %v", parked, err)
		}
		var record struct {
			Stream, Type, Reason string
			Frame                []byte
		}
		if err := json.Unmarshal([]byte(parked["1-2"]), &record); err != nil {
			t.Fatal(err)
		}
		e, _, err := eventstore.DecodeFrame(record.Frame)
		if err != nil || e.Stream.ID != "bad" || string(e.Payload) != "17850" ||
			record.Stream != "default/order/bad" || record.Type != p.Types[0] || record.Reason != "cannot be" {
			t.Errorf("the parked event is %+v with frame %+v, %v", record, e, err)
		}
		if err := view.Skip(ctx, eventstore.Position{Incarnation: 1, LSN: 2}); err != nil {
			t.Fatal(err)
		}
		skipped, err := raw.HGet(ctx, "tributary:orders:skipped", "1-2").Result()
		if err != nil || !strings.Contains(skipped, "cannot be") {
			t.Errorf("the skipped event is %q, %v", skipped, err)
		}
		if at, err := view.Skipped(ctx); err != nil || len(at) != 1 || at[0].LSN != 2 {
			t.Errorf("Skipped: %v, %v", at, err)
		}
	})
}

// TestSkippedDuringARebuild: what an operator skips while a generation is being filled is skipped there too.
func TestSkippedDuringARebuild(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		p := orders()
		p.Apply = func(w projections.Keys, e *eventstore.Recorded) error {
			if e.Stream.ID == "bad" {
				return errors.New("cannot be")
			}
			w.HashAdd("n", "n", 1)
			return nil
		}
		log := memstore.New(memstore.Options{})
		for _, id := range []string{"good", "bad", "good"} {
			if _, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", id), Events: []eventstore.Event{{Type: p.Types[0]}},
			}}}); err != nil {
				t.Fatal(err)
			}
		}
		view := newView(t, dial(t, address), p)
		if err := projections.Replay(t.Context(), log, view, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		g, err := view.Beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var events []eventstore.Recorded
		for e, err := range log.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		at := func(i int) projections.Cursor {
			return projections.Cursor{Position: events[i].Position, Seq: events[i].Dot.Seq}
		}
		if _, err := g.Commit(t.Context(), projections.Cursor{}, at(0), events[:1]); err != nil {
			t.Fatal(err)
		}
		if err := view.Skip(t.Context(), events[1].Position); err != nil {
			t.Fatal(err)
		}
		if parked, err := g.Commit(t.Context(), at(0), at(2), events[1:]); err != nil || len(parked) != 0 {
			t.Errorf("Commit: %v, %v, want nothing parked", parked, err)
		}
	})
}

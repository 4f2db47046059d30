package pebblestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// configuration is one way to run a store. Whatever it is, the same requests get the same answers.
type configuration struct {
	name    string
	options Options
	// every is after how many steps the store is closed and opened again; zero: never.
	every int
	// noIndex takes the index away meanwhile, crash takes the power instead of closing.
	noIndex, crash bool
	memory         bool // memstore
}

var configurations = []configuration{
	{name: "memstore", memory: true},
	{name: "defaults"},
	{name: "index batch 1", options: Options{IndexBatch: 1}},
	{name: "index batch 2", options: Options{IndexBatch: 2}},
	{name: "index batch 7", options: Options{IndexBatch: 7}},
	{name: "index batch 100", options: Options{IndexBatch: 100}},
	{name: "no tail", options: Options{TailBytes: 1}},
	{name: "a short tail", options: Options{TailBytes: 6000}},
	{name: "groups of one event", options: Options{MaxGroupEvents: 1}},
	{name: "groups of few bytes", options: Options{MaxGroupBytes: 100}},
	{name: "a queue for one request", options: Options{MaxQueueBytes: 1}},
	{name: "no cache", options: Options{CacheBytes: 1, CachedStreams: 1}},
	{name: "a small cache", options: Options{CacheBytes: 1 << 18, CachedStreams: 5, IndexBatch: 20}},
	{name: "small write buffers", options: Options{MemTableBytes: 16 << 10}},
	{name: "small everything", options: Options{IndexBatch: 1, TailBytes: 1, MaxGroupEvents: 1, CacheBytes: 1, CachedStreams: 1, MemTableBytes: 16 << 10}},
	{name: "restarted", every: 50},
	{name: "restarted often, index batch 3", every: 7, options: Options{IndexBatch: 3}},
	{name: "restarted with other sizes", every: 31, options: Options{TailBytes: 2000, IndexBatch: 11, CachedStreams: 2}},
	{name: "index taken away", every: 40, noIndex: true},
	{name: "index taken away often, index batch 5", every: 15, noIndex: true, options: Options{IndexBatch: 5}},
	{name: "power lost", every: 30, crash: true},
	{name: "power lost often, index batch 4", every: 9, crash: true, options: Options{IndexBatch: 4}},
	{name: "power and index lost", every: 35, crash: true, noIndex: true, options: Options{MemTableBytes: 16 << 10}},
}

// run is a store of a configuration on which the script is played.
type run struct {
	t       *testing.T
	config  configuration
	disk    *vfs.MemFS
	store   eventstore.Store
	answers hash.Hash
	steps   []string // what was answered, to tell where two runs part
}

func (r *run) open() {
	if r.config.memory {
		r.store = memstore.New(memstore.Options{})
		return
	}
	o := r.config.options
	o.FS, o.Logger = r.disk, quietLog
	s, err := Open("data/store", &o)
	if err != nil {
		r.t.Fatalf("%s: open: %v", r.config.name, err)
	}
	r.store = s
}

// again ends the store in the configuration's way and opens it.
func (r *run) again() {
	image := r.disk
	if r.config.crash {
		image = r.disk.CrashClone(vfs.CrashCloneCfg{})
	}
	if err := r.store.Close(); err != nil {
		r.t.Fatalf("%s: close: %v", r.config.name, err)
	}
	r.disk = image
	if r.config.noIndex {
		if err := r.disk.RemoveAll("data/store/index"); err != nil {
			r.t.Fatal(err)
		}
	}
	r.open()
}

// answered notes an answer. Times, and what follows from them, differ between two runs.
func (r *run) answered(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.answers.Write([]byte(text))
	r.steps = append(r.steps, text)
}

func (r *run) events(what string, seq func(func(eventstore.Recorded, error) bool)) {
	text := what
	for e, err := range seq {
		if err != nil {
			text += fmt.Sprintf(" error %v", err)
			break
		}
		id := e.ID
		if e.Type == eventstore.ReceiptType {
			id = uuid.Nil
		}
		text += fmt.Sprintf("\n%s %s %d %+v %s %q %v %s %s", e.Position, e.Stream, e.Version, e.Batch, e.Type, e.Payload, e.Tags, id, e.CommandID)
	}
	r.answered("%s", text)
}

// play plays the script that a seed gives.
func (r *run) play(seed uint64, steps int) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(seed, 1))
	streams := func() eventstore.StreamID {
		return eventstore.Stream([]string{"a", "ab", "b"}[rng.IntN(3)], fmt.Sprint(rng.IntN(4)))
	}
	tag := func() string { return fmt.Sprint("tag:", rng.IntN(6)) }
	query := func() eventstore.Query {
		q := eventstore.Tagged(tag())
		if rng.IntN(3) == 0 {
			q[0].Types = []string{fmt.Sprintf("t%d.happened.v1", rng.IntN(3))}
		}
		if rng.IntN(3) == 0 {
			q = append(q, eventstore.QueryItem{Tags: []string{tag(), tag()}})
		}
		return q
	}
	head := uint64(0)
	position := func() eventstore.Position {
		if lsn := uint64(rng.Int64N(int64(head) + 1)); lsn > 0 {
			return eventstore.Position{Incarnation: 1, LSN: lsn}
		}
		return eventstore.Position{}
	}
	for step := range steps {
		if r.config.every > 0 && step%r.config.every == r.config.every-1 {
			r.again()
		}
		switch kind := rng.IntN(20); {
		case kind < 11:
			request := eventstore.Request{}
			if rng.IntN(2) == 0 {
				request.ID = fmt.Sprint("id-", rng.IntN(steps/4))
				request.Hash = eventstore.Hash{byte(1 + rng.IntN(8)/7)}
			}
			seen := map[eventstore.StreamID]bool{}
			for range rng.IntN(4) {
				a := eventstore.StreamAppend{Stream: streams(), Expect: eventstore.Expect(max(-2, rng.IntN(14)-10))}
				if a.Expect < eventstore.Exists || seen[a.Stream] {
					continue
				}
				seen[a.Stream] = true
				for range 1 + rng.IntN(3) {
					e := eventstore.Event{Type: fmt.Sprintf("t%d.happened.v1", rng.IntN(3)), Payload: fmt.Appendf(nil, "%d", rng.Uint64())}
					e.ID = uuid.NewSHA1(uuid.Nil, e.Payload)
					for range rng.IntN(3) {
						e.Tags = append(e.Tags, tag())
					}
					slices.Sort(e.Tags)
					e.Tags = slices.Compact(e.Tags)
					a.Events = append(a.Events, e)
				}
				request.Appends = append(request.Appends, a)
			}
			if rng.IntN(3) == 0 {
				request.Condition = &eventstore.Condition{Query: query(), After: position()}
			}
			receipt, err := r.store.Append(ctx, request)
			if err == nil {
				head = max(head, receipt.Position.LSN)
			}
			r.answered("append: %+v %v %v", receipt, err, errors.Is(err, eventstore.ErrConflict))
		case kind < 12:
			s := streams()
			v, err := r.store.Version(ctx, s)
			r.answered("version of %s: %d %v", s, v, err)
		case kind < 14:
			s, from := streams(), uint64(rng.IntN(6))
			r.events("stream", r.store.Read(ctx, s, from))
			r.events("stream backwards", r.store.ReadBackwards(ctx, s, from))
		case kind < 15:
			id := fmt.Sprint("id-", rng.IntN(steps/4))
			receipt, hash, err := r.store.Receipt(ctx, "", id)
			r.answered("receipt of %s: %+v %x %v", id, receipt, hash, err)
		case kind < 18:
			f, at := eventstore.Filter{Query: query()}, position()
			if rng.IntN(2) == 0 {
				f = eventstore.Filter{Categories: []string{"a", "b"}[:1+rng.IntN(2)]}
			}
			r.events("log", r.store.ReadAll(ctx, at, f))
			r.events("log backwards", r.store.ReadAllBackwards(ctx, at, f))
		default:
			r.subscribe(ctx, position(), head)
		}
	}
	state, err := r.store.Log(ctx)
	r.answered("log: %s %d %d %v", state.Durable, state.Seq, state.Streams, err)
	r.events("all", r.store.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}))
}

// subscribe reads from a position to the end of the log by a subscription, whose chunks may be cut in any way.
func (r *run) subscribe(ctx context.Context, after eventstore.Position, head uint64) {
	sub, err := r.store.Subscribe(ctx, after, eventstore.Filter{MaxChunk: 3})
	if err != nil {
		r.t.Fatalf("%s: subscribe: %v", r.config.name, err)
	}
	defer sub.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // what was acknowledged and is lost never comes
	defer cancel()
	r.events("subscription", func(yield func(eventstore.Recorded, error) bool) {
		for at := after.LSN; at < head; {
			chunk, err := sub.Next(ctx)
			if ctx.Err() != nil {
				r.t.Fatalf("%s: a subscription has come to lsn %d, events were acknowledged up to %d", r.config.name, at, head)
			}
			for _, e := range chunk.Events {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			at = chunk.Position.LSN
		}
	})
}

// TestConfigurations plays one script under many configurations and wants the same answers from all. It is T32 of
// docs/reliability.md, and shows S8, S12 and S15.
func TestConfigurations(t *testing.T) {
	scripts, steps := 1, 250
	if *reliability.Long {
		scripts, steps = 20, 400
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	result := reliability.Result{
		Test: "T32", What: "scripts played in each configuration", Seed: seed, Cycles: len(configurations),
		Extra: map[string]any{"steps of each": steps},
	}
	for script := 0; script < scripts && reliability.TimeLeft(t); script++ {
		result.Seeds++
		var first *run
		for _, config := range configurations {
			r := &run{t: t, config: config, disk: vfs.NewCrashableMem(), answers: sha256.New()}
			r.open()
			r.play(seed+uint64(script), steps)
			if err := r.store.Close(); err != nil {
				t.Fatalf("%s: close: %v", config.name, err)
			}
			if first == nil {
				first = r
			}
			if slices.Equal(r.answers.Sum(nil), first.answers.Sum(nil)) {
				continue
			}
			result.Violations++
			for i := range first.steps {
				if i >= len(r.steps) || r.steps[i] != first.steps[i] {
					t.Errorf("script %d: with %s the answer %d is another than with %s:\n%s\nwant\n%s", script, config.name, i, first.config.name, r.steps[i:min(i+1, len(r.steps))], first.steps[i])
					break
				}
			}
		}
	}
	result.Print(t)
}

package replication_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// source has rows by key, each with the time at which it came; a target has those that were brought over.
type source struct {
	mu     sync.Mutex
	rows   map[string]int64
	target map[string]string // by key, who brought it
}

func newSource() *source { return &source{rows: map[string]int64{}, target: map[string]string{}} }

func (s *source) put(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[key] = time.Now().UnixNano()
}

func (s *source) brought() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.target)
}

// poller is a Sharer over a source.
type poller struct {
	name string
	from *source

	mu    sync.Mutex
	keep  func(string) bool
	fail  error
	boom  bool
	sick  bool
	dies  bool   // its HealthCheck panics
	whole func() // called, with mu held, when it is given all keys
	done  time.Time
	calls []int64
	// looked counts the calls of HealthCheck.
	looked int
}

func (p *poller) Sync(_ context.Context, fromTS int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	began := time.Now()
	p.calls = append(p.calls, fromTS)
	if p.boom {
		p.boom = false
		panic("boom")
	}
	if p.fail != nil {
		return p.fail
	}
	p.from.mu.Lock()
	defer p.from.mu.Unlock()
	for key, at := range p.from.rows {
		if _, there := p.from.target[key]; at >= fromTS && !there && (p.keep == nil || p.keep(key)) {
			p.from.target[key] = p.name
		}
	}
	p.done = began
	return nil
}

func (p *poller) HealthCheck() (bool, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looked++; p.dies {
		panic("no health")
	}
	return !p.done.IsZero() && p.fail == nil && !p.sick, time.Since(p.done)
}

func (p *poller) Share(keep func(string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keep = keep; keep == nil && p.whole != nil {
		p.whole()
	}
}

// held is a poller whose next call, when it is told to hold, brings nothing over and fails when it is let go.
type held struct {
	poller
	hold bool // guarded by mu
	let  chan struct{}
}

func (h *held) Sync(ctx context.Context, fromTS int64) error {
	h.mu.Lock()
	hold := h.hold
	h.hold = false
	h.mu.Unlock()
	if !hold {
		return h.poller.Sync(ctx, fromTS)
	}
	select {
	case <-h.let:
		return errors.New("a page failed")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// asked waits until the health was asked for a few times from now on.
func (h *held) asked(t *testing.T) {
	t.Helper()
	count := func() (n int) {
		h.set(func() { n = h.looked })
		return n
	}
	now := count()
	eventually(t, "the health is asked for", func() bool { return count() > now+10 })
}

func (p *poller) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// progress keeps progress in memory.
type progress struct {
	mu sync.Mutex
	at map[string]int64
}

func (p *progress) Load(name string) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[name], nil
}

func (p *progress) Save(name string, fromTS int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[name] = fromTS
	return nil
}

func orchestrate(t *testing.T, keep replication.SyncProgress) *replication.SyncOrchestrator {
	t.Helper()
	o := replication.NewSyncOrchestrator(replication.OrchestratorOptions{
		Interval: time.Millisecond, Backoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond,
		Overlap: time.Millisecond, Patience: 100 * time.Millisecond, Progress: keep, Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := o.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return o
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

func (s *source) has(key string) func() bool {
	return func() bool { return s.brought()[key] != "" }
}

func TestSyncersAreCalledAgain(t *testing.T) {
	from := newSource()
	p := &poller{name: "first", from: from, fail: errors.New("source is away"), boom: true}
	o := orchestrate(t, nil)
	if err := o.Add("user-sync", p); err != nil {
		t.Fatal(err)
	}
	if err := o.Add("user-sync", p); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a second syncer of the name: %v", err)
	}
	from.put("ann")
	eventually(t, "failures are counted, a panic among them", func() bool {
		s := o.Status()[0]
		return s.Failures >= 3 && !s.Healthy && s.LastError == "source is away"
	})
	p.set(func() { p.fail = nil })
	eventually(t, "ann is brought over", from.has("ann"))
	eventually(t, "the syncer is well", func() bool { s := o.Status()[0]; return s.Healthy && s.LastError == "" && s.FromTS > 0 })
	if err := o.Remove("user-sync"); err != nil {
		t.Fatal(err)
	}
	from.put("bob")
	if err := o.Remove("user-sync"); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if got := from.brought(); !cmp.Equal(got, map[string]string{"ann": "first"}) {
		t.Errorf("brought over %v after the syncer was removed", got)
	}
}

// A syncer is exchanged while rows come in, and none is left out; a successor that does not work is not taken.
func TestSyncersAreExchanged(t *testing.T) {
	from, kept := newSource(), &progress{at: map[string]int64{}}
	o := orchestrate(t, kept)
	if err := o.Add("order-sync", &poller{name: "rest", from: from}); err != nil {
		t.Fatal(err)
	}
	n := 0
	more := func() {
		for range 50 {
			n++
			from.put(fmt.Sprintf("order-%d", n))
		}
	}
	more()
	eventually(t, "the first is there", from.has("order-1"))
	broken := &poller{name: "broken", from: from, fail: errors.New("no such host")}
	if err := o.Swap(t.Context(), "order-sync", broken); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("exchange for one that fails: %v", err)
	}
	more()
	last := fmt.Sprintf("order-%d", n)
	eventually(t, "the one before goes on", from.has(last))
	if err := o.Swap(t.Context(), "order-sync", &poller{name: "grpc", from: from}); err != nil {
		t.Fatal(err)
	}
	more()
	eventually(t, "all is brought over", func() bool { return len(from.brought()) == n })
	if got := from.brought()[fmt.Sprintf("order-%d", n)]; got != "grpc" {
		t.Errorf("the last was brought over by %q, want the successor", got)
	}
	if from, err := kept.Load("order-sync"); err != nil || from == 0 {
		t.Errorf("kept progress is %d, %v", from, err)
	}
	if err := o.Swap(t.Context(), "nobody", broken); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("exchange of one that is not there: %v", err)
	}
}

// A trial has its share of the keys and no other; whether it is promoted or abandoned, what it failed to bring over comes.
func TestSyncersAreTried(t *testing.T) {
	for _, promote := range []bool{true, false} {
		t.Run(fmt.Sprintf("promote %v", promote), func(t *testing.T) {
			from := newSource()
			o := orchestrate(t, &progress{at: map[string]int64{}})
			if err := o.Add("user-sync", &poller{name: "old", from: from}); err != nil {
				t.Fatal(err)
			}
			from.put("first")
			eventually(t, "the first is there", from.has("first"))
			trial := &poller{name: "new", from: from}
			if err := o.Try("user-sync", trial, 1.5); !errors.Is(err, eventstore.ErrInvalid) {
				t.Errorf("a share of 1.5: %v", err)
			}
			if err := o.Try("user-sync", trial, 0.5); err != nil {
				t.Fatal(err)
			}
			if err := o.Swap(t.Context(), "user-sync", &poller{name: "third", from: from}); !errors.Is(err, eventstore.ErrInvalid) {
				t.Errorf("exchanged while another is tried: %v", err)
			}
			for i := range 100 {
				from.put(fmt.Sprintf("user-%d", i))
			}
			eventually(t, "both bring over theirs", func() bool { return len(from.brought()) == 101 })
			by := map[string]int{}
			for _, who := range from.brought() {
				by[who]++
			}
			if by["new"] < 30 || by["new"] > 70 {
				t.Errorf("the trial brought over %d of 100, want about half", by["new"])
			}
			trial.set(func() { trial.fail = errors.New("bug") })
			for i := range 100 {
				from.put(fmt.Sprintf("late-%d", i))
			}
			eventually(t, "the other brings over its own", func() bool { return len(from.brought()) > 120 })
			if len(from.brought()) == 201 {
				t.Fatal("the share of the trial was brought over by the other")
			}
			trial.set(func() { trial.fail = nil; trial.sick = !promote })
			var err error
			if promote {
				err = o.Promote(t.Context(), "user-sync")
			} else {
				err = o.Abandon("user-sync")
			}
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "nothing is left out", func() bool { return len(from.brought()) == 201 })
			if got := o.Status(); len(got) != 1 || got[0].Name != "user-sync" {
				t.Errorf("after the trial there are %+v", got)
			}
			if err := o.Abandon("user-sync"); !errors.Is(err, eventstore.ErrNotFound) {
				t.Errorf("the trial ended twice: %v", err)
			}
		})
	}
}

// A syncer that had a part of the keys, and has all of them now, comes with the health of before: nothing is learned from it
// until it has brought over all.
func TestHealthOfATrialIsNotThatOfTheWhole(t *testing.T) {
	for _, promote := range []bool{true, false} {
		t.Run(fmt.Sprintf("promote %v", promote), func(t *testing.T) {
			from := newSource()
			o := orchestrate(t, &progress{at: map[string]int64{}})
			present := &held{poller: poller{name: "old", from: from}, let: make(chan struct{})}
			if err := o.Add("user-sync", present); err != nil {
				t.Fatal(err)
			}
			trial := &held{poller: poller{name: "new", from: from}, let: make(chan struct{})}
			if err := o.Try("user-sync", trial, 0.5); err != nil {
				t.Fatal(err)
			}
			if err := o.Swap(t.Context(), "user-sync", &poller{name: "third", from: from}); !errors.Is(err, eventstore.ErrInvalid) {
				t.Errorf("exchanged while another is tried: %v", err)
			}
			from.put("first")
			eventually(t, "the first is there", from.has("first"))
			eventually(t, "the trial is well", func() bool { healthy, _ := trial.HealthCheck(); return healthy })
			trial.set(func() { trial.fail = errors.New("bug") })
			for i := range 100 {
				from.put(fmt.Sprintf("user-%d", i))
			}
			late := time.Now().Add(2 * time.Millisecond).UnixNano()
			eventually(t, "the other has come further", func() bool { return o.Status()[0].FromTS > late })
			if promote {
				trial.set(func() { trial.fail, trial.whole = nil, func() { trial.hold = true } })
				present.set(func() { present.sick = true }) // anything is better
				if err := o.Promote(t.Context(), "user-sync"); !errors.Is(err, eventstore.ErrUnavailable) {
					t.Errorf("promoted before it had done all keys once: %v", err)
				}
			} else {
				present.set(func() { present.whole = func() { present.hold = true } })
				if err := o.Abandon("user-sync"); err != nil {
					t.Fatal(err)
				}
				present.asked(t)
				close(present.let)
			}
			eventually(t, "all is brought over", func() bool { return len(from.brought()) == 101 })
		})
	}
}

// A syncer whose HealthCheck panics is not healthy, and is run all the same.
func TestHealthThatPanics(t *testing.T) {
	from := newSource()
	h := &held{poller: poller{name: "first", from: from, dies: true}, hold: true, let: make(chan struct{})}
	o := orchestrate(t, nil)
	if err := o.Add("user-sync", h); err != nil {
		t.Fatal(err)
	}
	from.put("ann")
	h.asked(t)
	if s := o.Status()[0]; s.Healthy || !strings.Contains(s.LastError, "no health") {
		t.Errorf("the health of one that panics: %+v", s)
	}
	close(h.let)
	eventually(t, "ann is brought over", from.has("ann"))
	h.set(func() { h.dies = false })
	eventually(t, "the syncer is well", func() bool { s := o.Status()[0]; return s.Healthy && s.LastError == "" })
}

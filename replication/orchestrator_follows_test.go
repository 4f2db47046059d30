package replication_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// follows is a syncer that follows, and fails when it is told to.
type follows struct {
	fail chan error

	mu      sync.Mutex // guards what follows
	running bool
	began   []time.Time
	from    []int64
}

func (f *follows) Sync(ctx context.Context, fromTS int64) error {
	f.mu.Lock()
	f.running, f.began, f.from = true, append(f.began, time.Now()), append(f.from, fromTS)
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.running = false; f.mu.Unlock() }()
	select {
	case err := <-f.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *follows) HealthCheck() (healthy bool, lag time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running, 0
}

// kept is progress in memory, which cannot be kept while full is set, and counts how often it is.
type kept struct {
	mu    sync.Mutex // guards what follows
	at    map[string]int64
	full  error
	saves int
}

func (k *kept) Load(name string) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at[name], nil
}

func (k *kept) Save(name string, fromTS int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full == nil {
		k.at[name] = fromTS
		k.saves++
	}
	return k.full
}

func (k *kept) set(full error) { k.mu.Lock(); defer k.mu.Unlock(); k.full = full }

// A syncer that follows is called again after short pauses when it has done its work in between, is well when it is, and writes little of how
// far it has come; that this cannot be kept is said.
func TestSyncersThatFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		progress := &kept{at: map[string]int64{"users": time.Now().Add(time.Hour).UnixNano()}} // of a clock that was wrong
		o := replication.NewSyncOrchestrator(replication.OrchestratorOptions{Progress: progress, Log: slog.New(slog.DiscardHandler)})
		f := &follows{fail: make(chan error)}
		if err := o.Add("users", f); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		for range 20 {
			time.Sleep(time.Minute)
			if s := o.Status()[0]; !s.Healthy || s.LastError != "" {
				t.Errorf("while it follows it is %+v", s)
			}
			f.fail <- errors.New("no leader: \xff" + strings.Repeat("x", 5000))
			synctest.Wait()
			if s := o.Status()[0]; s.Healthy || !strings.HasPrefix(s.LastError, "no leader: \uFFFDx") || len(s.LastError) > 1100 {
				t.Errorf("when it has failed it is %+v", s)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		f.mu.Lock()
		for i := 1; i < len(f.began); i++ {
			if pause := f.began[i].Sub(f.began[i-1]) - time.Minute; pause > time.Second {
				t.Errorf("after failure %d it is called again after %s", i, pause)
			}
		}
		if f.from[0] != 0 {
			t.Errorf("after progress of the future it begins at %d", f.from[0])
		}
		f.mu.Unlock()
		progress.mu.Lock()
		if progress.saves > 21*60/4 {
			t.Errorf("in 21 minutes it was kept %d times how far it has come", progress.saves)
		}
		progress.mu.Unlock()
		progress.set(errors.New("no room"))
		time.Sleep(time.Minute)
		if s := o.Status()[0]; !s.Healthy || !strings.Contains(s.LastError, "not kept: no room") {
			t.Errorf("when it is not kept how far it has come it is %+v", s)
		}
		progress.set(nil)
		time.Sleep(time.Minute)
		if s := o.Status()[0]; s.LastError != "" {
			t.Errorf("when it is kept again it is %+v", s)
		}
		if at, _ := progress.Load("users"); time.Since(time.Unix(0, at)) > 10*time.Second {
			t.Errorf("it is kept that it has come to %s", time.Unix(0, at))
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A name that a trial would have is nobody's, and of keys with running numbers a trial has its share.
func TestTrialsHaveTheirNamesAndShares(t *testing.T) {
	o := replication.NewSyncOrchestrator(replication.OrchestratorOptions{Log: slog.New(slog.DiscardHandler)})
	p := &poller{}
	for what, err := range map[string]error{
		"Add": o.Add("users (trial)", p), "Try": o.Try("users (trial)", p, 0.5), "Add without a name": o.Add("", p),
	} {
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := o.Add("users", p); err != nil {
		t.Fatal(err)
	}
	if err := o.Promote(t.Context(), "users"); !errors.Is(err, eventstore.ErrNotFound) || !strings.Contains(err.Error(), "begun with Try") {
		t.Errorf("without a trial: %v", err)
	}
	tried := &poller{}
	if err := o.Try("users", tried, 0.1); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"user-", "p", "cust-5"} {
		var taken []int
		for i := range 1000 {
			if tried.keep(fmt.Sprintf("%s%03d", prefix, i)) {
				taken = append(taken, i)
			}
		}
		if n := len(taken); math.Abs(float64(n)-100) > 40 || slices.Max(taken)-slices.Min(taken) < 900 {
			t.Errorf("of 1,000 keys %sN a trial of a tenth has %d: %v", prefix, n, taken)
		}
	}
}

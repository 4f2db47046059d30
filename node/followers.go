package node

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/projections"
)

// followers are what the node runs behind its log, each with the error that it ended with last, and with what it waits for before
// it begins.
type followers struct {
	mu    sync.Mutex // guards what follows
	ended map[string]error
	waits map[string]error
}

// wait notes what keeps a follower from beginning; nil: nothing does any more.
func (f *followers) wait(what string, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waits == nil {
		f.waits = map[string]error{}
	}
	f.waits[what] = why
}

// waiting returns what keeps a follower from beginning.
func (f *followers) waiting(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waits[what]
}

func (f *followers) note(what string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended == nil {
		f.ended = map[string]error{}
	}
	f.ended[what] = err
}

func (f *followers) fault(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended[what]
}

// The time between two runs of a follower that damaged files of the log have ended doubles from one to the other. After a run
// of steadyRun it begins with the shortest again.
const (
	firstRepairPause = time.Second
	lastRepairPause  = 30 * time.Second
	steadyRun        = time.Minute
)

// supervise runs a follower. One that ends because files of the log are damaged is begun again, for they may be repaired; that
// is logged once for each fault. One that ends for another reason is given up. Both are shown by health; commands and the
// other followers go on.
func (n *Node) supervise(ctx context.Context, what string, run func(context.Context) error) error {
	told := ""
	for pause := firstRepairPause; ; pause = min(2*pause, lastRepairPause) {
		began := time.Now()
		err := ignoreCancel(run(ctx))
		if err == nil || ctx.Err() != nil {
			return nil
		}
		n.followers.note(what, err)
		if !errors.Is(err, eventstore.ErrDamaged) {
			n.log.Error("gave up", slog.String("what", what), slog.Any("error", err))
			return nil
		}
		if time.Since(began) >= steadyRun {
			pause, told = firstRepairPause, ""
		}
		if told != err.Error() {
			told = err.Error()
			n.log.Error("tries again until the log is repaired", slog.String("what", what), slog.Any("error", err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		n.followers.note(what, nil)
	}
}

// stuckFollowers are the projections and sagas that do not go on by themselves, or not before the log is repaired.
func (n *Node) stuckFollowers() []server.Dependency {
	var out []server.Dependency
	for _, m := range n.models {
		if s := m.runner.Status(); s.State == projections.Stopped || s.State == projections.Damaged {
			out = append(out, server.Dependency{Name: projectionPrefix + m.name, Mode: m.sink, Problem: string(s.State) + ": " + s.LastError + n.stuckHint(cmp.Or(m.runner.Damage(), n.followers.fault(projectionPrefix+m.name)))})
		}
	}
	for _, s := range n.sagas {
		if err := n.followers.fault(sagaPrefix + s.name); err != nil {
			state := projections.Stopped
			if errors.Is(err, eventstore.ErrDamaged) {
				state = projections.Damaged
			}
			out = append(out, server.Dependency{Name: sagaPrefix + s.name, Mode: "store", Problem: string(state) + ": " + err.Error() + n.stuckHint(err)})
		}
	}
	return out
}

const (
	projectionPrefix = "projection "
	sagaPrefix       = "saga "
)

func (n *Node) stuckHint(err error) string {
	switch {
	case errors.Is(err, projections.ErrDropped) && n.sites.site != nil:
		return "; this site's topic lacks the events of others, so that it cannot be filled from there: a log that is restored from a backup has again what was dropped since"
	case errors.Is(err, projections.ErrDropped):
		return "; where the topic still has what the log has dropped it can be filled from there: tributary serve --source kafka"
	case errors.Is(err, eventstore.ErrArchiveDamaged):
		return "; " + putBack + ", and it goes on by itself then"
	case errors.Is(err, eventstore.ErrDamaged):
		return "; tributary scrub --repair brings back from Kafka what is lost, and it goes on by itself then"
	}
	return ""
}

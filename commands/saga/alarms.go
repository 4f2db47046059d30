package saga

import (
	"container/heap"
	"context"
	"time"
)

// alarm wakes an instance: because a timer of its saga is due, or to try again what failed.
type alarm struct {
	at       time.Time
	instance *instance
	timer    string // empty: try again
	place    int    // in the heap; -1 when it has gone off
}

// alarmHeap is a heap of alarms by time. Each knows its place, so that timers that are cancelled leave at once and hold
// nothing in memory until they would have been due.
type alarmHeap []*alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
	a.place = len(*h)
	*h = append(*h, a)
}

// Pop implements heap.Interface.
func (h *alarmHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.place = -1
	return a
}

// setAlarm adds an alarm. REQUIRES: mu is held.
func (r *Runner) setAlarm(i *instance, timer string, at time.Time) *alarm {
	a := &alarm{at: at, instance: i, timer: timer}
	heap.Push(&r.alarms, a)
	if a.place == 0 {
		signal(r.earlier)
	}
	return a
}

// dropAlarm removes an alarm that may have gone off. REQUIRES: mu is held.
func (r *Runner) dropAlarm(a *alarm) {
	if a != nil && a.place >= 0 {
		heap.Remove(&r.alarms, a.place)
	}
}

// syncTimers makes the instance's alarms those of its memory's timers. REQUIRES: mu is held, by the instance's worker.
func (r *Runner) syncTimers(i *instance) {
	for name, a := range i.timers {
		if due, ok := i.memory.timers[name]; !ok || !due.Equal(a.at) {
			r.dropAlarm(a)
			delete(i.timers, name)
		}
	}
	for name, due := range i.memory.timers {
		// One that has gone off and waits in the inbox is still there.
		if i.timers[name] == nil {
			i.timers[name] = r.setAlarm(i, name, due)
		}
	}
}

// runAlarms rings alarms until ctx ends.
func (r *Runner) runAlarms(ctx context.Context) {
	for {
		next, set := r.ring()
		var due <-chan time.Time
		timer := time.NewTimer(next)
		if set {
			due = timer.C
		}
		select {
		case <-due:
		case <-r.earlier:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// ring wakes the instances whose alarms are due and returns how long it is to the next.
func (r *Runner) ring() (next time.Duration, set bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.options.Now()
	for len(r.alarms) > 0 {
		a := r.alarms[0]
		if wait := a.at.Sub(now); wait > 0 {
			return wait, true
		}
		heap.Pop(&r.alarms)
		if a.timer != "" {
			due := a.at
			a.instance.inbox = append(a.instance.inbox, &arrival{in: inputRecord{Kind: kindFired, Timer: a.timer, Due: &due}})
		}
		r.rouse(a.instance)
	}
	return 0, false
}

// signal leaves word in a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

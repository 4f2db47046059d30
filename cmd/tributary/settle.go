package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// settle waits until everything that follows the log has caught up: sagas have nothing under way, the mirror and every
// projection that runs stand at the end of the log. It shows how far each is.
func settle(ctx context.Context, g *globals, s *session) error {
	admin := apiv1.NewAdminServiceClient(s.conn)
	bar := newProgress(g, "catch up", "events")
	defer bar.end()
	moved, seen := time.Now(), ""
	told := moved
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		st, err := admin.GetStatus(ctx, &apiv1.GetStatusRequest{})
		if err != nil {
			return fmt.Errorf("ask how far the server is: %w", err)
		}
		if broken := stopped(st); broken != "" {
			return fmt.Errorf("it will not catch up: %s", broken)
		}
		behind := backlog(st)
		if behind == 0 {
			tick.Stop()
			return nil
		}
		switch now := progressOf(st); {
		case now != seen:
			moved, seen = time.Now(), now
			told = moved
		case time.Since(moved) > settlePatience:
			tick.Stop()
			return fmt.Errorf("nothing has moved for %s: %s", settlePatience, laggards(st))
		case time.Since(told) > settleTells:
			told = time.Now()
			g.say("Nothing has moved for %s, and it is waited for %s at most: %s", time.Since(moved).Round(time.Second), settlePatience, laggards(st))
		}
		bar.set(int64(st.GetEvents()-min(behind, st.GetEvents())), int64(st.GetEvents()))
		select {
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// backlog is how many events the last of all followers is behind, at least 1 while a saga has something to do.
func backlog(st *apiv1.Status) uint64 {
	var behind uint64
	for _, saga := range st.GetSagas() {
		if saga.GetBusy() > 0 || before(saga.GetPosition(), st.GetDurable()) {
			behind = 1
		}
	}
	for _, p := range st.GetProjections() {
		behind = max(behind, p.GetLagEvents())
		if before(p.GetPosition(), st.GetDurable()) {
			behind = max(behind, 1)
		}
	}
	return max(behind, st.GetMirror().GetLagEvents(), st.GetFeed().GetLagEvents())
}

// settlePatience is how long settle waits while nothing moves: an engine that starts on a machine with much else to do takes
// minutes. Every settleTells it says what it waits for.
const (
	settlePatience = 5 * time.Minute
	settleTells    = 15 * time.Second
)

// progressOf is different whenever something has moved.
func progressOf(st *apiv1.Status) string {
	out := st.GetDurable() + st.GetMirror().GetMirrored() + st.GetFeed().GetMirrored()
	for _, p := range st.GetProjections() {
		out += fmt.Sprintf(" %s %.0f", p.GetPosition(), p.GetRate())
	}
	for _, s := range st.GetSagas() {
		out += fmt.Sprint(" ", s.GetPosition(), s.GetBusy())
	}
	return out
}

// laggards names what is behind, and why where that is known.
func laggards(st *apiv1.Status) string {
	var out []string
	for _, m := range []*apiv1.MirrorStatus{st.GetMirror(), st.GetFeed()} {
		if m.GetLagEvents() > 0 {
			out = append(out, fmt.Sprintf("the mirror to %s is %s, %d events behind %s", m.GetTopic(), m.GetState(), m.GetLagEvents(), m.GetLastError()))
		}
	}
	for _, p := range st.GetProjections() {
		if before(p.GetPosition(), st.GetDurable()) {
			out = append(out, fmt.Sprintf("%s is %s at %s, %d events behind %s", p.GetName(), p.GetState(), p.GetPosition(), p.GetLagEvents(), p.GetLastError()))
		}
	}
	for _, s := range st.GetSagas() {
		if s.GetBusy() > 0 || before(s.GetPosition(), st.GetDurable()) {
			out = append(out, fmt.Sprintf("saga %s has %d instances to work on %s", s.GetName(), s.GetBusy(), s.GetLastError()))
		}
	}
	return strings.Join(out, "; ")
}

// stopped names what has given up.
func stopped(st *apiv1.Status) string {
	for _, p := range st.GetProjections() {
		switch p.GetState() {
		case "stopped":
			return "projection " + p.GetName() + " in " + p.GetSink() + " has stopped: " + p.GetLastError()
		case "damaged":
			return "projection " + p.GetName() + " in " + p.GetSink() + " stands still until the log is repaired: " + p.GetLastError()
		}
	}
	for _, m := range []*apiv1.MirrorStatus{st.GetMirror(), st.GetFeed()} {
		if m.GetState() == "forked" || m.GetState() == "fenced" {
			return "the mirror to " + m.GetTopic() + " is " + m.GetState() + ": " + m.GetLastError()
		}
	}
	return ""
}

func before(position, end string) bool {
	p, err := eventstore.ParsePosition(position)
	if err != nil {
		return end != "" && end != "0-0"
	}
	e, err := eventstore.ParsePosition(end)
	return err == nil && p.Compare(e) < 0
}

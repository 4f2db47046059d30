package main

import (
	"context"
	"fmt"
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
		bar.set(int64(st.GetEvents()-min(behind, st.GetEvents())), int64(st.GetEvents()))
		select {
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// backlog is how many events the last of all followers is behind, at least 1 while a saga has work under way.
func backlog(st *apiv1.Status) uint64 {
	var behind uint64
	for _, saga := range st.GetSagas() {
		if saga.GetOpen() > 0 || before(saga.GetPosition(), st.GetDurable()) {
			behind = 1
		}
	}
	for _, p := range st.GetProjections() {
		behind = max(behind, p.GetLagEvents())
		if before(p.GetPosition(), st.GetDurable()) {
			behind = max(behind, 1)
		}
	}
	if m := st.GetMirror(); m != nil {
		behind = max(behind, m.GetLagEvents())
	}
	return behind
}

// stopped names what has given up.
func stopped(st *apiv1.Status) string {
	for _, p := range st.GetProjections() {
		if p.GetState() == "stopped" {
			return "projection " + p.GetName() + " in " + p.GetSink() + " has stopped: " + p.GetLastError()
		}
	}
	if m := st.GetMirror(); m != nil && (m.GetState() == "forked" || m.GetState() == "fenced") {
		return "the mirror is " + m.GetState() + ": " + m.GetLastError()
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

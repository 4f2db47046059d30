package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/replication"
)

// newSteady returns the time of day that events are given. It follows the machine's, and a jump of that is logged, until there is a site
// that holds it.
func newSteady(log *slog.Logger) *hlc.Steady {
	return hlc.NewSteady(hlc.SteadyOptions{Jumped: func(by time.Duration) {
		log.Warn("the machine's time of day has jumped; what is recorded from now on is given the new one", slog.Duration("by", by))
	}})
}

// muchTooLate is how far in the future the log may end without a word: clocks are corrected.
const muchTooLate = time.Second

// warnOfFuture says when the log ends in the future. Where there are other sites, which know better what time it is, theirs says so.
func (n *Node) warnOfFuture(ctx context.Context) error {
	heads, err := n.local.Heads(ctx)
	if err != nil {
		return fmt.Errorf("ask the store: %w", err)
	}
	var latest hlc.Timestamp
	for _, h := range heads {
		latest = max(latest, h.HLC)
	}
	if early := latest.Time().Sub(n.steady.Now()); early > muchTooLate {
		n.log.Warn("the last event is of the future: the machine's clock is behind, or was ahead when that was recorded; what is recorded now comes after it, and is given its time until that has come",
			slog.Time("event", latest.Time()), slog.Duration("early", early))
	}
	return nil
}

// clockHealth says what is wrong with the site's clock; nothing when nothing is.
func clockHealth(o *replication.Overview) (out []server.Dependency) {
	if why := o.Clock.Problem(); why != "" {
		out = append(out, server.Dependency{Name: "clock", Mode: string(replication.FencedClock), Problem: why})
	}
	return out
}

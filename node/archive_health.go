package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
)

// archiveLook is the time between two looks at the places where archived events are.
const archiveLook = time.Minute

// putBack is what helps against damage in an archive.
const putBack = "put the segment back as it was, from a copy of the archive; where there is none, restore the log from a backup or from Kafka"

// watchArchives looks again and again whether archived events can be read, and whether the place that the policy names is fit
// for more, until ctx ends. Neither keeps a node from starting: it needs its archive for old events alone, and a place that is
// away may come back.
func (n *Node) watchArchives(ctx context.Context) error {
	probed := n.config.ArchiveTo == ""
	for wait := time.NewTimer(0); ; wait.Reset(archiveLook) {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return nil
		}
		n.local.LookAtArchives(ctx)
		if !probed {
			probed = n.probeArchive(ctx)
		}
	}
}

// probeArchive reports whether events can be archived to the policy's place, and says once why not.
func (n *Node) probeArchive(ctx context.Context) bool {
	err := n.local.ProbeArchive(ctx, n.config.ArchiveTo)
	if ctx.Err() != nil {
		return false
	}
	if err != nil && n.archivePolicy.unfitFor() == nil {
		n.log.Warn("nothing can be archived to the place that --archive-to names; it is tried again", slog.String("to", n.config.ArchiveTo), slog.Any("error", err))
	}
	n.archivePolicy.notFit(err)
	return err == nil
}

// archiveHealth says how the places are where archived events are, and where they are to go.
func (n *Node) archiveHealth() []server.Dependency {
	var out []server.Dependency
	unfit := n.archivePolicy.unfitFor()
	for _, place := range n.local.ArchivePlaces() {
		d := server.Dependency{Name: "archive", Mode: place.Location, Up: len(place.Faults) == 0}
		if !d.Up {
			d.Problem = archiveProblem(place.Faults)
		}
		if place.Location == n.config.ArchiveTo && unfit != nil {
			if d.Up {
				d.Up, d.Problem = false, unfitProblem(unfit)
			}
			unfit = nil
		}
		out = append(out, d)
	}
	if unfit != nil {
		out = append(out, server.Dependency{Name: "archive", Mode: n.config.ArchiveTo, Problem: unfitProblem(unfit)})
	}
	return out
}

func unfitProblem(err error) string {
	return "nothing can be archived there: " + err.Error() + "; see to the place, or name another with --archive-to"
}

// archiveProblem says what is wrong with segments, and what helps. Damage comes first: what is away may come back by itself.
func archiveProblem(faults []error) string {
	worst := faults[0]
	for _, err := range faults {
		if errors.Is(err, eventstore.ErrArchiveDamaged) {
			worst = err
			break
		}
	}
	text := worst.Error()
	if n := len(faults) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	if errors.Is(worst, eventstore.ErrArchiveDamaged) {
		return text + "; " + putBack + ". tributary archive verify looks at all of them"
	}
	return text + "; what is newer can be read, and commands are taken; see to the place"
}

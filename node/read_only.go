package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/wholefile"
)

// readOnlyFile keeps, in the data folder, why an operator has the site take no writes.
const readOnlyFile = "read-only.json"

// readOnly is what an operator says: that the site takes no writes, and why. It is kept across starts. What other sites write
// comes all the same, and so does what the sites say to each other through the log.
type readOnly struct {
	path string
	kept atomic.Pointer[readOnlyNote] // nil: it takes writes
}

type readOnlyNote struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// Left says that it is on record that the site has left, which was the reason.
	Left bool `json:"left,omitempty"`
}

// openReadOnly reads what an operator has said.
func openReadOnly(path string) (*readOnly, error) {
	r := &readOnly{path: path}
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	var note readOnlyNote
	if err == nil {
		err = json.Unmarshal(body, &note)
	}
	if err != nil {
		return nil, fmt.Errorf("read why the site is read-only: %w; mend or remove %s", err, path)
	}
	r.kept.Store(&note)
	return r, nil
}

// set has the site take no writes, for a reason; without one it takes them again.
func (r *readOnly) set(reason string) error {
	if reason == "" {
		if err := wholefile.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take writes again: %w", err)
		}
		r.kept.Store(nil)
		return nil
	}
	return r.keep(&readOnlyNote{Reason: reason, Since: time.Now().UTC()})
}

func (r *readOnly) keep(note *readOnlyNote) error {
	body, err := json.Marshal(note)
	if err != nil {
		return fmt.Errorf("encode why the site is read-only: %w", err)
	}
	if err := wholefile.Write(r.path, append(body, '\n')); err != nil {
		return err
	}
	r.kept.Store(note)
	return nil
}

// follow has a site that takes no writes because it has left take them again when it is on record that it has joined again.
func (r *readOnly) follow(takesPart, left bool) error {
	note := r.kept.Load()
	switch {
	case note == nil || !strings.HasPrefix(note.Reason, hasLeft):
		return nil
	case left && !note.Left:
		return r.keep(&readOnlyNote{Reason: note.Reason, Since: note.Since, Left: true})
	case takesPart && note.Left: // and not in the moment before its leaving is on record
		return r.set("")
	}
	return nil
}

// hasLeft begins the reason of a site that has left, or is about to.
const hasLeft = "it has left: "

// reason is why the site takes no writes; nothing when it does.
func (r *readOnly) reason() string {
	note := r.kept.Load()
	if note == nil {
		return ""
	}
	why, leaves := strings.CutPrefix(note.Reason, hasLeft)
	switch {
	case leaves && !note.Left:
		return fmt.Sprintf("the site leaves since %s: %s (tributary sites leave, asked again, goes on; tributary sites readonly off has it stay)", note.Since.Format(time.RFC3339), why)
	case leaves:
		return fmt.Sprintf("the site takes part no more since %s: %s (tributary sites join, asked at another site, has it take part again)", note.Since.Format(time.RFC3339), why)
	}
	return fmt.Sprintf("an operator has the site take no writes since %s: %s (tributary sites readonly off)", note.Since.Format(time.RFC3339), note.Reason)
}

// leaves reports whether the site takes no writes because it is about to leave, which is not on record yet.
func (r *readOnly) leaves() bool {
	note := r.kept.Load()
	return note != nil && strings.HasPrefix(note.Reason, hasLeft) && !note.Left
}

// givingAway marks the context of what a site that leaves records to give away what only it may use.
type givingAway struct{}

// givesAway returns a context whose appends a site takes that takes no writes because it is about to leave.
func givesAway(ctx context.Context) context.Context {
	return context.WithValue(ctx, givingAway{}, true)
}

// refuses returns nil when the site takes a request, else an error that matches eventstore.ErrReadOnly. A site that is about to leave
// takes what gives away: it has to take no writes before that, so that it is given nothing itself.
func (r *readOnly) refuses(ctx context.Context, request *eventstore.Request) error {
	why := r.reason()
	if why == "" || ctx.Value(givingAway{}) != nil && r.leaves() {
		return nil
	}
	for i := range request.Appends {
		if !eventstore.IsSystemCategory(request.Appends[i].Stream.Category) {
			return fmt.Errorf("%w: %s", eventstore.ErrReadOnly, why)
		}
	}
	return nil
}

// TakesNone says why the node takes no commands at present; empty: it takes them.
func (n *Node) TakesNone() string {
	if err := n.sites.refused(); err != nil {
		return err.Error()
	}
	return n.readOnlyFor()
}

// readOnlyFor says why the site is read-only: because an operator says so, or because its store takes nothing, for want of room, or of the
// end of the log; empty: it is not.
func (n *Node) readOnlyFor() string {
	if why := n.sites.readOnly.reason(); why != "" {
		return why
	}
	if err := n.local.Writable(); errors.Is(err, eventstore.ErrReadOnly) {
		return err.Error()
	}
	return ""
}

package commands

import (
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// doubles tells events of a command that was done at several sites, none having heard of the others: a client asked again where the
// first answer had not come, at a site that had not received what it was about. Of them those of the site whose stand first in
// canonical order count.
type doubles struct {
	first map[string]eventstore.Dot // by command, of those that have an id
	// unnamed: some events are folded of which it is not known here what command they are of: they were decided by this process and not
	// read from the log yet, or stand in a snapshot.
	unnamed bool
}

// void says why an event does not count, the next one in canonical order; empty when it does. Knowing says that it was decided with
// the knowledge of all before it. It matches errRewound where that is only known from all of the stream.
func (d *doubles) void(r *eventstore.Recorded, knowing bool) (reason string, err error) {
	if r.Dot.Seq == 0 {
		d.unnamed = true
		return "", nil
	}
	if r.CommandID == "" {
		return "", nil
	}
	if !knowing && d.unnamed {
		return "", errRewound // read from the log they have names
	}
	first, done := d.first[r.CommandID]
	switch {
	case !done:
		if d.first == nil {
			d.first = map[string]eventstore.Dot{}
		}
		d.first[r.CommandID] = r.Dot
	case !knowing && !r.Knew(&eventstore.Recorded{Dot: first}):
		return fmt.Sprintf("%s had done the same command at the same time, and before it: %s", first.Log.Site, first), nil
	}
	return "", nil
}

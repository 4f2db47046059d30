package drill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tributary-es/tributary/commands/escrow"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Census is what a site holds, counted event by event.
type Census struct {
	Site   string
	Events int

	logs     map[string]*logCensus
	commands map[string]*effect
	orders   map[string]bool          // that any event is of
	stock    map[string]*escrow.Books // by stock code
	oversold []string                 // what the books break
}

// logCensus is what a site holds of one log.
type logCensus struct {
	events uint64
	seq    uint64 // of the last
	digest hash.Hash
}

// effect is where the events of a command stand.
type effect struct {
	log   string
	last  uint64
	twice bool // they are not side by side in one log
}

func newCensus(site string) *Census {
	return &Census{Site: site, logs: map[string]*logCensus{}, commands: map[string]*effect{}, orders: map[string]bool{}, stock: map[string]*escrow.Books{}}
}

// Take reads all that a site holds.
func Take(ctx context.Context, s *Site) (*Census, error) {
	c := newCensus(s.Name)
	stream, err := apiv1.NewStreamServiceClient(s.Conn()).ListEvents(ctx, &apiv1.ListEventsRequest{System: true})
	if err != nil {
		return nil, fmt.Errorf("read the events of site %s: %w", s.Name, err)
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err == nil {
			err = c.add(e)
		}
		if err != nil {
			return nil, fmt.Errorf("read the events of site %s: %w", s.Name, err)
		}
	}
}

// add counts an event.
func (c *Census) add(e *apiv1.Event) error {
	c.Events++
	cut := strings.LastIndexByte(e.GetDot(), '/')
	if cut < 0 {
		return fmt.Errorf("%q is no dot", e.GetDot())
	}
	name := e.GetDot()[:cut]
	seq, err := strconv.ParseUint(e.GetDot()[cut+1:], 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no dot: %w", e.GetDot(), err)
	}
	log, ok := c.logs[name]
	if !ok {
		log = &logCensus{digest: sha256.New()}
		c.logs[name] = log
	}
	if seq != log.seq+1 {
		return fmt.Errorf("event %s follows number %d of its log", e.GetDot(), log.seq)
	}
	log.seq, log.events = seq, log.events+1
	// All that an event was born with; its position and its version are the site's own.
	fmt.Fprintf(log.digest, "%q %q %q/%q/%q %q %d %q %q %q %q\n", e.GetDot(), e.GetEventId(), e.GetTenant(), e.GetCategory(), e.GetStreamId(),
		e.GetType(), e.GetRecordedAt().AsTime().UnixNano(), e.GetCommandId(), e.GetCausationId(), e.GetTags(), e.GetPayload())
	if id := e.GetCommandId(); id != "" {
		at, ok := c.commands[id]
		if !ok {
			at = &effect{log: name, last: seq - 1}
			c.commands[id] = at
		}
		at.twice = at.twice || at.log != name || at.last != seq-1
		at.last = seq
	}
	switch e.GetCategory() {
	case order.Category:
		c.orders[e.GetStreamId()] = true
	case inventory.Category:
		return c.count(e, name)
	}
	return nil
}

// Log says how far each site has a log, and with what in it.
type Log struct {
	Log    string            `json:"log"`
	Events map[string]uint64 `json:"events"`
	Digest map[string]string `json:"digest"`
	Equal  bool              `json:"equal"`
}

// Holds reports whether the site holds an event of a command.
func (c *Census) Holds(key string) bool {
	_, ok := c.commands[key]
	return ok
}

// Logs compares what several sites hold, log by log.
func Logs(held []*Census) (logs []Log) {
	names := map[string]bool{}
	for _, c := range held {
		for name := range c.logs {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		l := Log{Log: name, Events: map[string]uint64{}, Digest: map[string]string{}}
		different := map[string]bool{}
		for _, c := range held {
			digest := "" // it has none of it
			if one := c.logs[name]; one != nil {
				l.Events[c.Site], digest = one.events, hex.EncodeToString(one.digest.Sum(nil))
			}
			l.Digest[c.Site] = digest
			different[digest] = true
		}
		l.Equal = len(different) == 1
		logs = append(logs, l)
	}
	return logs
}

package commands_test

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// The aggregate of the tests with several sites: a page of notes, whose state shows the order in which they were folded.

type page struct {
	Notes string
	// Here is the site that the state is looked at from.
	Here string
}

type (
	note struct{ Text string }
	// look decides nothing, and gives away the state that it is decided on.
	look struct{ See func(page) }
)

type noted struct{ Text string }

var pageStream = eventstore.Stream("page", "1")

func pages(resolver commands.Resolver[page, noted]) commands.Aggregate[page, any, noted] {
	return commands.Aggregate[page, any, noted]{
		Category: "page",
		ID:       func(any) string { return "1" },
		Decide: func(s page, c any) ([]noted, error) {
			switch c := c.(type) {
			case note:
				return []noted{{c.Text}}, nil
			case look:
				c.See(s)
			}
			return nil, nil
		},
		Evolve:   func(s page, e noted) page { s.Notes += e.Text; return s },
		Codec:    commands.JSONCodec(map[string]noted{"page.noted.v1": {}}),
		Resolver: resolver,
	}
}

// keptPages is pages with a snapshot every so many events.
func keptPages(resolver commands.Resolver[page, noted], every int) commands.Aggregate[page, any, noted] {
	a := pages(resolver)
	a.Snapshots = &commands.Snapshots[page]{
		Version: 1, Every: every,
		Encode: func(p page) ([]byte, error) { return []byte(p.Notes), nil },
		Decode: func(b []byte) (page, error) { return page{Notes: string(b)}, nil },
	}
	return a
}

// once is a rule of a domain: a note that stands on the page already does not hold.
func once(s page, e noted) string {
	for _, c := range s.Notes {
		if string(c) == e.Text {
			return e.Text + " stands there already"
		}
	}
	return ""
}

func at(s page, site string) page { s.Here = site; return s }

// replica is a store that several sites may write.
type replica interface {
	eventstore.Store
	eventstore.Replica
}

// site is a store with a bus over it.
type site struct {
	replica
	*commands.Bus
	clock time.Time
	// own is all that was born here.
	own eventstore.LogID
}

func newSite(t failer, name string, a commands.Aggregate[page, any, noted], o commands.Options) *site {
	t.Helper()
	s := &site{clock: time.UnixMilli(1000), own: eventstore.LogID{Site: name, Incarnation: 1}}
	s.replica = memstore.New(memstore.Options{LogID: s.own, Clock: hlc.New(func() time.Time { return s.clock })})
	s.start(t, a, o)
	return s
}

// start begins with a new bus, which has folded nothing.
func (s *site) start(t failer, a commands.Aggregate[page, any, noted], o commands.Options) {
	t.Helper()
	s.Bus = commands.NewBus(s.replica, o)
	must(t, commands.Register(s.Bus, a, any(note{}), any(look{})))
}

// from has the site take in up to count events of what another one holds of a log.
func (s *site) from(t failer, other *site, log eventstore.LogID, count int) {
	t.Helper()
	ctx := context.Background()
	heads, err := s.Heads(ctx)
	must(t, err)
	after := uint64(0)
	for _, h := range heads {
		if h.Log == log {
			after = h.Seq
		}
	}
	var events []eventstore.Recorded
	for r, err := range other.ReadLog(ctx, log, after) {
		must(t, err)
		if events = append(events, r); len(events) == count {
			break
		}
	}
	if len(events) > 0 {
		_, err := s.Receive(ctx, events)
		must(t, err)
	}
}

// exchange has every site take in everything.
func exchange(t failer, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		for _, other := range sites {
			if s != other {
				s.from(t, other, other.own, 1<<20)
			}
		}
	}
}

func (s *site) note(t failer, text string) eventstore.Receipt {
	t.Helper()
	return dispatch(t, s.Bus, commands.Meta{}, note{text})
}

// seen is the state that the bus decides on.
func (s *site) seen(t failer) (seen page) {
	t.Helper()
	dispatch(t, s.Bus, commands.Meta{}, look{func(p page) { seen = p }})
	return seen
}

// events are those of the page, in canonical order.
func (s *site) events(t failer) []eventstore.Recorded {
	t.Helper()
	var events []eventstore.Recorded
	for r, err := range s.Read(context.Background(), pageStream, 1) {
		must(t, err)
		r.Position, r.Revises = eventstore.Position{}, false // the site's own
		events = append(events, r)
	}
	if !slices.IsSortedFunc(events, func(a, b eventstore.Recorded) int { return a.CompareCanonical(&b) }) {
		t.Fatal("the stream was not read in canonical order")
	}
	return events
}

func (s *site) judge(t failer) commands.Judgement {
	t.Helper()
	j, err := s.Judge("page", s.events(t))
	must(t, err)
	return j
}

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

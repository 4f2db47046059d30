package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// Given is what GiveAway has given, and what it could not give.
type Given struct {
	// Units are those of all Codes together.
	Units, Codes int64
	// Held are units that open reservations hold: they stay with the site.
	Held, HeldCodes int64
	// Dropped is up to where the log's events were dropped, zero where all are left: codes that the site was given no units of since
	// then were not looked at. DroppedCodes are those that it was, and of which it cannot be told how many there are.
	Dropped      eventstore.Position
	DroppedCodes int64
}

// giveAtOnce is how many codes are given away in one message.
const giveAtOnce = 100

// rightsFrom are the types of events that give a site units.
var rightsFrom = []string{ReceivedV1, AdjustedV1, ReturnedV1, MovedV1}

// GiveAway gives the units that are available at the bus's site to other sites, in equal parts, until none are: what is given to it
// meanwhile goes on to them too. Orders that come meanwhile may take of them; what comes in behind it stays. After an error some may have
// been given, and calling it again goes on.
func GiveAway(ctx context.Context, b *commands.Bus, log eventstore.Reader, to []string, at time.Time) (Given, error) {
	g := giving{
		bus: b, log: log, to: to, at: at,
		given: map[eventstore.StreamID]bool{}, held: map[eventstore.StreamID]int64{}, unknown: map[eventstore.StreamID]bool{},
	}
	for {
		before := g.units
		if err := g.pass(ctx); err != nil || g.units == before {
			return g.result(), err
		}
	}
}

// giving is a GiveAway at work.
type giving struct {
	bus *commands.Bus
	log eventstore.Reader
	to  []string
	at  time.Time

	read, dropped eventstore.Position // how far the log was looked at, and up to where it has nothing
	units         int64
	given         map[eventstore.StreamID]bool
	held          map[eventstore.StreamID]int64
	unknown       map[eventstore.StreamID]bool // whose first events were dropped
}

func (g *giving) result() Given {
	out := Given{Units: g.units, Codes: int64(len(g.given)), Dropped: g.dropped, DroppedCodes: int64(len(g.unknown))}
	for _, held := range g.held {
		out.Held += held
		out.HeldCodes++
	}
	return out
}

// pass gives of all codes that the log names beyond where it was looked at.
func (g *giving) pass(ctx context.Context) error {
	codes, err := g.find(ctx)
	if dropped, ok := errors.AsType[*eventstore.TruncatedError](err); ok && dropped.Before().LSN > g.read.LSN {
		g.read, g.dropped = dropped.Before(), dropped.Before()
		codes, err = g.find(ctx)
	}
	if err != nil {
		return fmt.Errorf("look for stock: %w", err)
	}
	for tenant, of := range codes {
		for some := range slices.Chunk(of, giveAtOnce) {
			if err := g.give(ctx, tenant, some); err != nil {
				return err
			}
		}
	}
	return nil
}

// find returns the codes, by tenant, that the log names in what gives a site units.
func (g *giving) find(ctx context.Context) (map[string][]string, error) {
	seen := map[eventstore.StreamID]bool{}
	codes := map[string][]string{}
	read := g.read
	for r, err := range g.log.ReadAll(ctx, g.read, eventstore.Filter{Categories: []string{Category}, Types: rightsFrom}) {
		if err != nil {
			return nil, err
		}
		if read = r.Position; !seen[r.Stream] {
			seen[r.Stream] = true
			codes[r.Stream.Tenant] = append(codes[r.Stream.Tenant], r.Stream.ID)
		}
	}
	g.read = read
	return codes, nil
}

// giveTries is how often units are counted again that an order has taken before they were given.
const giveTries = 10

func (g *giving) give(ctx context.Context, tenant string, codes []string) error {
	for try := 1; ; try++ {
		if err := g.bus.Decidable(Category); err != nil {
			return fmt.Errorf("count stock: %w", err)
		}
		var cmds []any
		var units int64
		var given []eventstore.StreamID
		for _, code := range codes {
			stream := eventstore.StreamID{Tenant: tenant, Category: Category, ID: code}
			s, _, _, err := commands.LoadHere[State, Command, Event](ctx, g.bus, Aggregate(), tenant, code)
			if errors.Is(err, eventstore.ErrTruncated) {
				g.unknown[stream] = true
				continue
			}
			if err != nil {
				return fmt.Errorf("look at stock %s: %w", code, err)
			}
			moves := evenly(code, s.Available(), g.to, g.at)
			if len(moves) > 0 {
				given = append(given, stream)
				units += s.Available()
			}
			cmds = append(cmds, moves...)
			delete(g.held, stream)
			if held := s.books.Row(s.site).Held; held > 0 {
				g.held[stream] = held
			}
		}
		var err error
		if len(cmds) > 0 {
			_, err = g.bus.Dispatch(ctx, commands.Meta{Tenant: tenant}, cmds...)
		}
		var refused *commands.Rejection
		if errors.As(err, &refused) && refused.Code == CodeInsufficient && try < giveTries {
			continue
		}
		if err != nil {
			return fmt.Errorf("give stock away: %w", err)
		}
		g.units += units
		for _, stream := range given {
			g.given[stream] = true
		}
		return nil
	}
}

// evenly divides units among sites; the first of them get what is left over.
func evenly(code string, units int64, to []string, at time.Time) (cmds []any) {
	for i, site := range to {
		part := units / int64(len(to)-i)
		if units%int64(len(to)-i) > 0 {
			part++
		}
		units -= part
		for part > 0 {
			quantity := min(part, MaxQuantity)
			cmds = append(cmds, MoveRights{Code: code, To: site, Quantity: quantity, At: at})
			part -= quantity
		}
	}
	return cmds
}

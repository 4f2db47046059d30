package inventory

import (
	"context"
	"errors"
	"fmt"
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
}

// giveAtOnce is how many codes are given away in one message.
const giveAtOnce = 100

// rightsFrom are the types of events that give a site units.
var rightsFrom = []string{ReceivedV1, AdjustedV1, ReturnedV1, MovedV1}

// GiveAway gives the units that are available at the bus's site to other sites, in equal parts. Orders that come meanwhile may take
// of them; what comes in behind it stays. After an error some may have been given, and calling it again goes on.
func GiveAway(ctx context.Context, b *commands.Bus, log eventstore.Reader, to []string, at time.Time) (g Given, err error) {
	seen := map[eventstore.StreamID]bool{}
	codes := map[string][]string{} // by tenant
	for r, err := range log.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Categories: []string{Category}, Types: rightsFrom}) {
		if err != nil {
			return g, fmt.Errorf("look for stock: %w", err)
		}
		if !seen[r.Stream] {
			seen[r.Stream] = true
			codes[r.Stream.Tenant] = append(codes[r.Stream.Tenant], r.Stream.ID)
		}
	}
	for tenant, of := range codes {
		for len(of) > 0 {
			n := min(len(of), giveAtOnce)
			if err := g.give(ctx, b, tenant, of[:n], to, at); err != nil {
				return g, err
			}
			of = of[n:]
		}
	}
	return g, nil
}

// giveTries is how often units are counted again that an order has taken before they were given.
const giveTries = 10

func (g *Given) give(ctx context.Context, b *commands.Bus, tenant string, codes, to []string, at time.Time) error {
	for try := 1; ; try++ {
		var cmds []any
		var now Given
		for _, code := range codes {
			s, _, _, err := commands.LoadHere[State, Command, Event](ctx, b, Aggregate(), tenant, code)
			if err != nil {
				return fmt.Errorf("look at stock %s: %w", code, err)
			}
			moves := evenly(code, s.Available(), to, at)
			if len(moves) > 0 {
				now.Codes++
				now.Units += s.Available()
			}
			cmds = append(cmds, moves...)
			if held := s.books.Row(s.site).Held; held > 0 {
				now.HeldCodes++
				now.Held += held
			}
		}
		var err error
		if len(cmds) > 0 {
			_, err = b.Dispatch(ctx, commands.Meta{Tenant: tenant}, cmds...)
		}
		var refused *commands.Rejection
		if errors.As(err, &refused) && refused.Code == CodeInsufficient && try < giveTries {
			continue
		}
		if err != nil {
			return fmt.Errorf("give stock away: %w", err)
		}
		g.Units, g.Codes, g.Held, g.HeldCodes = g.Units+now.Units, g.Codes+now.Codes, g.Held+now.Held, g.HeldCodes+now.HeldCodes
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

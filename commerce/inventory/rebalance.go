package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/escrow"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Rebalancer gives units of this site to sites that sell more than they have. It looks at a code when something happens to it,
// and knows the demand for it from what was reserved at each site since it runs. All sites that run one need no agreement: each gives
// of its own alone.
type Rebalancer struct {
	Bus *commands.Bus
	Log eventstore.Reader
	// Sites names the sites among which units are shared, this one among them: those that would hear of a gift.
	Sites func(context.Context) ([]string, error)
	// Now is the time of day that events are given.
	Now    func() time.Time
	Logger *slog.Logger // nil is silent
}

const (
	// rebalanceEvery is how often the codes are looked at to which something has happened.
	rebalanceEvery = 500 * time.Millisecond
	// rebalancePause is how long units of a code are not given away again: what was given has to arrive first.
	rebalancePause = 2 * time.Second
	// rebalanceAtOnce is at how many codes it looks in one go.
	rebalanceAtOnce = 1000
	// demandKept is for how long the demand for a code is remembered that nobody has asked for.
	demandKept = 10 * time.Minute
)

// wanted is what is known of a code.
type wanted struct {
	demand map[string]*escrow.Demand // by site
	asked  time.Time                 // when something happened to it last, of this site's clock
	moved  time.Time                 // when units of it were given away last
}

// Run works until ctx ends, and then returns nil. Errors are those of the log, of Subscribe and Next.
func (r Rebalancer) Run(ctx context.Context) error {
	state, err := r.Log.Log(ctx)
	if err != nil {
		return fmt.Errorf("rebalance stock: %w", err)
	}
	sub, err := r.Log.Subscribe(ctx, state.Durable, eventstore.Filter{Categories: []string{Category}})
	if err != nil {
		return fmt.Errorf("rebalance stock: %w", err)
	}
	defer sub.Close()
	b := balance{Rebalancer: r, codes: map[eventstore.StreamID]*wanted{}, due: map[eventstore.StreamID]bool{}}
	if b.Logger == nil {
		b.Logger = slog.New(slog.DiscardHandler)
	}
	for {
		if err := b.listen(ctx, sub); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("rebalance stock: %w", err)
		}
		b.look(ctx)
	}
}

// balance is a Rebalancer at work. It is used by one goroutine.
type balance struct {
	Rebalancer
	codes map[eventstore.StreamID]*wanted
	due   map[eventstore.StreamID]bool // to be looked at
	said  string                       // the last error that was logged
}

// listen takes in what happens for a while, and waits longer when nothing is due.
func (b *balance) listen(ctx context.Context, sub eventstore.Subscription) error {
	timed, cancel := context.WithTimeout(ctx, rebalanceEvery)
	defer cancel()
	for {
		waiting := timed
		if len(b.due) == 0 {
			waiting = ctx
		}
		chunk, err := sub.Next(waiting)
		switch {
		case err != nil && waiting == timed && timed.Err() != nil && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		}
		for i := range chunk.Events {
			b.note(&chunk.Events[i])
		}
	}
}

func (b *balance) note(e *eventstore.Recorded) {
	b.due[e.Stream] = true
	w := b.codes[e.Stream]
	if w == nil {
		w = &wanted{demand: map[string]*escrow.Demand{}}
		b.codes[e.Stream] = w
	}
	w.asked = b.Now()
	if e.Type != ReservedV1 {
		return
	}
	event, err := codec.Decode(e)
	if err != nil {
		return // commands and read models say so
	}
	if reserved, ok := event.(*commercev1.InventoryReserved); ok {
		d := w.demand[e.Dot.Log.Site]
		if d == nil {
			d = new(escrow.Demand)
			w.demand[e.Dot.Log.Site] = d
		}
		d.Observe(reserved.GetQuantity(), e.HLC.Time())
	}
}

// look forgets what nobody has asked for, and gives away what is due.
func (b *balance) look(ctx context.Context) {
	now := b.Now()
	b.forget(now) // alone too
	sites, err := b.Sites(ctx)
	if err != nil || len(sites) < 2 {
		clear(b.due) // the next event has it looked at again
		b.say(err)
		return
	}
	looked := 0
	for stream := range b.due {
		w := b.codes[stream]
		if now.Sub(w.moved) < rebalancePause {
			continue
		}
		if looked++; looked > rebalanceAtOnce {
			break
		}
		delete(b.due, stream)
		demand := make(map[string]float64, len(sites))
		for _, site := range sites {
			demand[site] = 0
			if d := w.demand[site]; d != nil {
				demand[site] = d.PerSecond(now)
			}
		}
		receipt, err := b.Bus.Dispatch(ctx, commands.Meta{Tenant: stream.Tenant}, Rebalance{Code: stream.ID, Demand: demand, At: now})
		switch {
		case err != nil:
			b.due[stream] = true
			w.moved = now // not at once again
			b.say(err)
		case slices.ContainsFunc(receipt.Streams, func(s eventstore.StreamReceipt) bool { return s.First > 0 }):
			w.moved = now
		}
	}
}

// forget forgets the codes that nobody has asked for.
func (b *balance) forget(now time.Time) {
	for stream, w := range b.codes {
		if !b.due[stream] && now.Sub(w.asked) > demandKept {
			delete(b.codes, stream)
		}
	}
}

// say logs an error, each once.
func (b *balance) say(err error) {
	switch {
	case err == nil, errors.Is(err, context.Canceled), err.Error() == b.said:
	default:
		b.said = err.Error()
		b.Logger.Warn("units of stock cannot be given to other sites, which is tried again", "error", err)
	}
}

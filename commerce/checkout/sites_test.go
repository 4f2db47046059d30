package checkout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// here is a site with a shop of its own, whose checkout carries out as many messages as it is allowed.
type here struct {
	t       *testing.T
	name    string
	log     eventstore.LogID
	store   *memstore.Store
	bus     *commands.Bus
	options checkout.Options
	allowed atomic.Int64
	// meanwhile, when set, happens once while a message is on its way.
	meanwhile atomic.Pointer[func()]
	// home, unless it is nil, is the site that writes orders.
	home   atomic.Pointer[string]
	runner *saga.Runner
	halt   func()
}

// Dispatch implements saga.Dispatcher.
func (h *here) Dispatch(ctx context.Context, meta commands.Meta, cmds ...any) (eventstore.Receipt, error) {
	if h.allowed.Add(-1) < 0 {
		h.allowed.Add(1)
		return eventstore.Receipt{}, eventstore.ErrUnavailable
	}
	if happens := h.meanwhile.Swap(nil); happens != nil {
		(*happens)()
	}
	return h.bus.Dispatch(ctx, meta, cmds...)
}

// openSite opens a site whose clock is so much ahead, with stock of every code. It is used in a bubble of synctest.
func openSite(t *testing.T, name string, ahead time.Duration, stock int64, o checkout.Options) *here {
	t.Helper()
	h := &here{t: t, name: name, log: eventstore.LogID{Site: name, Incarnation: 1}, options: o}
	h.store = memstore.New(memstore.Options{
		LogID: h.log, Clock: hlc.New(func() time.Time { return time.Now().Add(ahead) }), Fence: h.fence,
	})
	h.bus = commands.NewBus(h.store, commands.Options{})
	if err := checkout.Register(h.bus); err != nil {
		t.Fatal(err)
	}
	for _, code := range codes {
		if stock > 0 {
			h.do(inventory.Receive{Code: code, Quantity: stock, At: at})
		}
	}
	h.start()
	return h
}

// fence is that of a site where orders are homed.
func (h *here) fence(stream eventstore.StreamID, cell uint16) (epoch uint32, err error) {
	home := h.home.Load()
	if stream.Category == order.Category && home != nil && *home != h.name {
		return 0, &eventstore.NotHomeError{Stream: stream, Cell: cell, Home: *home, Epoch: 1}
	}
	return 0, nil
}

func (h *here) start() { run(h, checkout.Saga(h.options)) }

// run runs a saga at a site until it is halted.
func run[S any](h *here, d saga.Definition[S]) {
	h.t.Helper()
	var err error
	h.runner, err = saga.New(h.store, h, d, saga.Options{
		Log: slog.New(slog.DiscardHandler), Void: h.bus.Void, Backoff: func(int) time.Duration { return time.Second },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.runner.Run(ctx) }()
	h.halt = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	}
}

// do gives commands as an operator or a customer would, and reports whether they were taken.
func (h *here) do(cmds ...any) bool {
	h.t.Helper()
	_, err := h.bus.Dispatch(context.Background(), commands.Meta{}, cmds...)
	var rejection *commands.Rejection
	if err != nil && !errors.As(err, &rejection) {
		h.t.Fatalf("dispatch: %v", err)
	}
	return err == nil
}

// allow lets so many messages of the checkout through, and waits until they are.
func (h *here) allow(messages int64) {
	h.allowed.Store(messages)
	time.Sleep(2*time.Second + time.Duration(messages)*time.Second)
	synctest.Wait()
}

// hear takes in what another site has recorded, up to so many batches, waits until it has led to what it leads to, and reports
// whether there was anything.
func (h *here) hear(from *here, batches int) bool {
	h.t.Helper()
	news := h.receive(from, batches)
	synctest.Wait()
	return news
}

func (h *here) receive(from *here, batches int) bool {
	ctx := context.Background()
	heads, err := h.store.Heads(ctx)
	after := uint64(0)
	for _, head := range heads {
		if head.Log == from.log {
			after = head.Seq
		}
	}
	var events []eventstore.Recorded
	for e, failure := range from.store.ReadLog(ctx, from.log, after) {
		if err = errors.Join(err, failure); err != nil || batches == 0 {
			break
		}
		if events = append(events, e); e.EndsBatch() {
			batches--
		}
	}
	if err == nil && len(events) > 0 {
		_, err = h.store.Receive(ctx, events)
	}
	if err != nil {
		h.t.Error(err) // also from a dispatch
	}
	return len(events) > 0
}

const everything = 1 << 30

// meet has two sites hear of each other until nothing is left to do but to wait for an operator.
func meet(a, b *here) {
	for busy := true; busy; {
		a.allow(100)
		b.allow(100)
		time.Sleep(checkout.DefaultTimeout)
		synctest.Wait()
		busy = a.hear(b, everything)
		busy = b.hear(a, everything) || busy
	}
}

func load[S, C, E any](h *here, a commands.Aggregate[S, C, E], id string) S {
	h.t.Helper()
	s, _, _, err := commands.LoadHere(context.Background(), h.bus, a, "", id)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// told says how the orders, with the stock that each takes of a code, have come out at a site. An order that was placed at
// two sites is two; each of them has its goods and money, or has given all of it back. It returns what is wrong.
func (h *here) told(ids []string, received int64) (faults []string) {
	h.t.Helper()
	fault := func(format string, args ...any) { faults = append(faults, h.name+": "+fmt.Sprintf(format, args...)) }
	gone, held := map[string]int64{}, map[string]int64{}
	for _, id := range ids {
		void, err := h.bus.Void(context.Background(), eventstore.Stream(order.Category, id))
		if err != nil {
			h.t.Fatal(err)
		}
		placed := load(h, order.Aggregate(), id)
		taken := "" // by which site
		for e, err := range h.store.Read(context.Background(), eventstore.Stream(order.Category, id), 1) {
			if err != nil {
				h.t.Fatal(err)
			}
			if _, isVoid := void[e.Dot]; !isVoid && e.Type == order.CreatedV1 {
				taken = e.Dot.Log.Site
			} else if !isVoid && saga.Sent(e.CommandID, checkout.Name) && e.Dot.Log.Site != taken {
				fault("%s of order %s, which %s took, is of the checkout of %s", e.Type, id, taken, e.Dot.Log.Site)
			}
			if e.Type != order.CreatedV1 {
				continue
			}
			name := id + "@" + e.Dot.Log.Site
			paid := load(h, payment.Aggregate(), name)
			units := map[inventory.Outcome]map[string]int64{inventory.Open: {}, inventory.Confirmed: {}}
			for _, code := range codes {
				if r := load(h, inventory.Aggregate(), code).Reservation(name); units[r.Outcome] != nil {
					units[r.Outcome][code] = r.Quantity
				}
			}
			reason, isVoid := void[e.Dot]
			is := fmt.Sprintf("order %s of %s is %s (void: %q), payment %q of %s with %s paid back, units %v", id, e.Dot.Log.Site, placed.Status, reason, paid.Status, paid.Amount, paid.Refunded, units)
			free := paid.Status == payment.None || paid.Status == payment.Voided || paid.Status == payment.Captured && paid.Refunded == paid.Amount
			switch {
			case isVoid || placed.Status == order.Cancelled:
				if !free || len(units[inventory.Open]) > 0 {
					fault("%s, want all given back", is)
				}
			case placed.Status == order.Shipped:
				if paid.Status != payment.Captured || !paid.Refunded.IsZero() || len(units[inventory.Open]) > 0 || len(units[inventory.Confirmed]) == 0 {
					fault("%s, want it paid and its goods gone", is)
				}
				for code, n := range units[inventory.Confirmed] {
					gone[code] += n
				}
			case placed.Status == order.Confirmed && h.options.ManualShip:
				if paid.Status != payment.Authorized || len(units[inventory.Open]) == 0 {
					fault("%s, want it ready to be shipped", is)
				}
				for code, n := range units[inventory.Open] {
					held[code] += n
				}
			default:
				fault("%s, want an end", is)
			}
		}
	}
	for _, code := range codes {
		if s := load(h, inventory.Aggregate(), code); s.OnHand != received-gone[code] || s.Reserved != held[code] {
			fault("of %s %d are on hand and %d reserved, want %d and %d", code, s.OnHand, s.Reserved, received-gone[code], held[code])
		}
	}
	return faults
}

func basket(id, customer string, n int64) order.Place {
	return order.Place{ID: id, CustomerID: customer, Country: "France", Currency: "GBP", At: at, Lines: []order.Line{
		{Number: 1, StockCode: "A", Quantity: n, UnitPrice: gbp("1.125")}, {Number: 2, StockCode: "B", Quantity: 1, UnitPrice: gbp("2")},
	}}
}

// TestOneOrderAtTwoSites (R11, C4): two sites that know nothing of each other are given orders with one id, and meet after each
// has carried out so many messages, or while the next one is on its way. The first order goes its way, the other is void and
// leaves nothing behind; no checkout is parked, none stays open.
func TestOneOrderAtTwoSites(t *testing.T) {
	for name, o := range map[string]struct{ bj, sh checkout.Options }{
		"both ship":     {},
		"nobody ships":  {checkout.Options{ManualShip: true}, checkout.Options{ManualShip: true}},
		"second is low": {sh: checkout.Options{PaymentLimit: gbp("1")}},
	} {
		for n := range 96 {
			theirs := []string{"17850", "9"}[n/16%2]
			first, second, heard := int64(n%4), int64(n/4%4), []string{"late", "midway", "before"}[n/32]
			t.Run(fmt.Sprintf("%s, customer %s, %d and %d messages, heard %s", name, theirs, first, second, heard), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { oneOrderAtTwoSites(t, theirs, o.bj, o.sh, first, second, heard) })
			})
		}
	}
}

func oneOrderAtTwoSites(t *testing.T, theirs string, o, other checkout.Options, first, second int64, heard string) {
	const stock = 10
	bj, sh := openSite(t, "bj", 0, stock, o), openSite(t, "sh", 0, stock, other)
	defer func() { bj.halt(); sh.halt() }()
	bj.do(basket("1", "17850", 3))
	time.Sleep(time.Second)
	sh.do(basket("1", theirs, 2))
	bj.allow(first)
	sh.allow(second)
	switch heard {
	case "midway":
		happens := func() { sh.receive(bj, everything) }
		sh.meanwhile.Store(&happens)
	case "before":
		sh.hear(bj, everything)
	}
	sh.allow(1)
	meet(bj, sh)
	for _, h := range []*here{bj, sh} {
		for _, fault := range h.told([]string{"1"}, 2*stock) {
			t.Error(fault)
		}
		want := order.Shipped
		if o.ManualShip {
			want = order.Confirmed
		}
		if s := load(h, order.Aggregate(), "1"); s.Status != want || s.CustomerID != "17850" {
			t.Errorf("%s has the order %s of customer %s, want the first, %s", h.name, s.Status, s.CustomerID, want)
		}
		if parked := h.runner.Parked(); len(parked) > 0 {
			t.Errorf("%s has parked %+v", h.name, parked)
		}
	}
	waits := map[*here]int{bj: 0, sh: 0}
	if o.ManualShip {
		waits[bj] = 1
	}
	for h, want := range waits {
		if h.runner.Open() != want {
			t.Errorf("%d checkouts are open at %s, want %d", h.runner.Open(), h.name, want)
		}
	}
	if end := ended(t, sh, checkout.Name, "1"); end != checkout.OutcomeVoid {
		t.Errorf("the checkout of the void order has ended with %q", end)
	}
	// What is void does not move the other any more.
	if sh.do(order.Cancel{ID: "1", Reason: "changed my mind", At: at}) && !o.ManualShip {
		t.Error("the order was cancelled after it was shipped")
	}
	meet(bj, sh)
	for _, fault := range append(bj.told([]string{"1"}, 2*stock), sh.told([]string{"1"}, 2*stock)...) {
		t.Error("after it was cancelled: " + fault)
	}
	if open := bj.runner.Open() + sh.runner.Open(); open > 0 {
		t.Errorf("%d checkouts are open after the order was cancelled", open)
	}
}

// ended returns how an instance of a saga has ended at a site.
func ended(t *testing.T, h *here, name, id string) string {
	t.Helper()
	for e, err := range h.store.ReadBackwards(context.Background(), eventstore.Stream(name+"."+h.name, id), 0) {
		var step struct{ Complete string }
		if err := errors.Join(err, json.Unmarshal(e.Payload, &step)); err != nil {
			t.Fatal(err)
		}
		return step.Complete
	}
	return ""
}

// TestOneReturnAtTwoSites (R11): of two returns with one id the first counts; what the other has moved is moved back.
func TestOneReturnAtTwoSites(t *testing.T) {
	for _, first := range []int64{0, 1} {
		for _, second := range []string{"not settled", "settled", "midway"} {
			t.Run(fmt.Sprintf("%d messages, the second %s", first, second), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { oneReturnAtTwoSites(t, first, second) })
			})
		}
	}
}

func oneReturnAtTwoSites(t *testing.T, first int64, second string) {
	const stock = 10
	bj, sh := openSite(t, "bj", 0, stock, checkout.Options{}), openSite(t, "sh", 0, stock, checkout.Options{})
	for _, h := range []*here{bj, sh} {
		h.halt()
		run(h, checkout.ReturnSaga())
		defer func() { h.halt() }()
		h.do(returns.Receive{ID: "R", Country: "France", Currency: "GBP", At: at, Lines: []returns.Line{
			{Number: 1, StockCode: "A", Quantity: map[*here]int64{bj: 3, sh: 2}[h], UnitPrice: gbp("1.5")},
		}})
		time.Sleep(time.Second)
	}
	bj.allow(first)
	switch second {
	case "not settled":
		sh.hear(bj, everything)
	case "settled":
		sh.allow(1)
	case "midway":
		happens := func() { sh.receive(bj, everything) }
		sh.meanwhile.Store(&happens)
		sh.allow(1)
	}
	meet(bj, sh)
	for _, h := range []*here{bj, sh} {
		if got := load(h, inventory.Aggregate(), "A").OnHand; got != 2*stock+3 {
			t.Errorf("%d units are on hand at %s, want those of the first return beside what was there, %d", got, h.name, 2*stock+3)
		}
		if got := load(h, payment.Aggregate(), "R@bj").Refunded; got != gbp("4.5") {
			t.Errorf("%s of the first return are paid back at %s, want 4.5", got, h.name)
		}
		kinds := map[string]int{}
		for e, err := range h.store.Read(context.Background(), eventstore.Stream(payment.Category, "R@sh"), 1) {
			if err != nil {
				t.Fatal(err)
			}
			kinds[e.Type]++
		}
		if kinds[payment.RefundedV1] != kinds[payment.AdjustedV1] || (second == "settled") != (kinds[payment.RefundedV1] == 1) {
			t.Errorf("the money of the void return has moved by %v at %s", kinds, h.name)
		}
		if parked := h.runner.Parked(); len(parked) > 0 || h.runner.Open() > 0 {
			t.Errorf("%s has parked %+v, and %d are open", h.name, parked, h.runner.Open())
		}
	}
	if one, other := ended(t, bj, checkout.ReturnsName, "R"), ended(t, sh, checkout.ReturnsName, "R"); one != checkout.OutcomeCompleted || other != checkout.OutcomeVoid {
		t.Errorf("the returns have ended with %q and %q", one, other)
	}
}

// TestSitesThatPart (R11, C4) has two sites take orders with the same ids, operators interfere at both, checkouts be held up
// and restarted, and bits of what the one does be heard at the other, in random order. When they have met, both know the same
// of every order, and each order that was placed has its goods and money, or has given all of it back.
func TestSitesThatPart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawParting(rt)
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = w.play(t) })
		for _, f := range faults {
			rt.Error(f)
		}
	})
}

// parting is what happens to two sites.
type parting struct {
	Options checkout.Options
	Ahead   time.Duration // of the second site's clock
	Moves   []move
}

// move is something that happens at one of them.
type move struct {
	Site     int
	What     string
	ID       string
	Customer string
	Count    int
}

func drawParting(t *rapid.T) parting {
	one := rapid.Custom(func(t *rapid.T) move {
		return move{
			Site:     rapid.IntRange(0, 1).Draw(t, "site"),
			What:     rapid.SampledFrom([]string{"place", "place", "allow", "allow", "allow", "hear", "hear", "midway", "restart", "wait", "confirm", "ship", "cancel"}).Draw(t, "what"),
			ID:       rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id"),
			Customer: rapid.SampledFrom([]string{"", "9", "17850"}).Draw(t, "customer"),
			Count:    rapid.IntRange(1, 6).Draw(t, "count"),
		}
	})
	p := parting{
		Ahead: rapid.SampledFrom([]time.Duration{0, -200 * time.Millisecond, 200 * time.Millisecond}).Draw(t, "ahead"),
		Moves: rapid.SliceOfN(one, 4, 40).Draw(t, "moves"),
	}
	p.Options.ManualShip = rapid.Bool().Draw(t, "manual")
	if rapid.Bool().Draw(t, "limited") {
		p.Options.PaymentLimit = gbp("6")
	}
	return p
}

func (p parting) play(t *testing.T) (faults []string) {
	const stock = 9
	sites := []*here{openSite(t, "bj", 0, stock, p.Options), openSite(t, "sh", p.Ahead, stock, p.Options)}
	defer func() { sites[0].halt(); sites[1].halt() }()
	shipped := map[string]bool{} // by an operator
	for _, m := range p.Moves {
		h, other := sites[m.Site], sites[1-m.Site]
		time.Sleep(10 * time.Millisecond)
		switch m.What {
		case "place":
			h.do(basket(m.ID, m.Customer, int64(m.Count)))
		case "allow":
			h.allow(int64(m.Count))
		case "hear":
			h.hear(other, m.Count)
		case "midway":
			happens := func() { h.receive(other, m.Count) }
			h.meanwhile.Store(&happens)
		case "restart":
			h.halt()
			h.start()
		case "wait":
			time.Sleep(time.Duration(m.Count) * checkout.DefaultTimeout / 3)
		case "confirm":
			h.do(order.Confirm{ID: m.ID, At: at})
		case "ship":
			shipped[m.ID] = h.do(order.Ship{ID: m.ID, At: at}) || shipped[m.ID]
		case "cancel":
			h.do(order.Cancel{ID: m.ID, Reason: "changed my mind", At: at})
		}
		synctest.Wait()
	}
	meet(sites[0], sites[1])
	ids := []string{"1", "2"}
	if parked := append(sites[0].runner.Parked(), sites[1].runner.Parked()...); len(parked) > 0 {
		// What an operator ships whose stock or payment was refused needs a person; nothing else does.
		for _, i := range parked {
			if !shipped[i.Instance] || !strings.Contains(i.Err.Error(), "was shipped by somebody else") {
				faults = append(faults, fmt.Sprintf("order %s is parked: %v", i.Instance, i.Err))
			}
		}
		return faults
	}
	for _, h := range sites {
		faults = append(faults, h.told(ids, 2*stock)...)
	}
	for _, id := range ids {
		if one, two := load(sites[0], order.Aggregate(), id), load(sites[1], order.Aggregate(), id); one.Status != two.Status {
			faults = append(faults, fmt.Sprintf("order %s is %s at one site and %s at the other", id, one.Status, two.Status))
		}
	}
	return faults
}

// TestAnOrderThatMovesAway (R6, C3, C4): the cell of an order goes to another site while its checkout has carried out so many
// messages. The checkout does no more about the order, and is not parked; what the new home does about it, goods and money
// follow, where they are; and when the cell comes back the checkout goes on by itself.
func TestAnOrderThatMovesAway(t *testing.T) {
	for then, want := range map[string]order.Status{"ship": order.Shipped, "cancel": order.Cancelled, "back": order.Shipped} {
		for first := range int64(3) {
			t.Run(fmt.Sprintf("%s after %d messages", then, first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { moveAway(t, then, want, first) })
			})
		}
	}
}

func moveAway(t *testing.T, then string, want order.Status, first int64) {
	const stock = 10
	bj, sh := openSite(t, "bj", 0, stock, checkout.Options{}), openSite(t, "sh", 0, stock, checkout.Options{})
	defer func() { bj.halt(); sh.halt() }()
	move := func(to string) {
		bj.home.Store(&to)
		sh.home.Store(&to)
	}
	move("bj")
	bj.do(basket("1", "17850", 3))
	bj.allow(first)
	move("sh")
	sh.hear(bj, everything)
	bj.allow(20)
	if parked := bj.runner.Parked(); len(parked) > 0 || bj.runner.Open() != 1 || sh.runner.Open() != 0 {
		t.Errorf("parked is %+v, %d are open at bj and %d at sh; want one that waits", parked, bj.runner.Open(), sh.runner.Open())
	}
	switch then {
	case "ship":
		sh.do(order.Confirm{ID: "1", At: at})
		if !sh.do(order.Ship{ID: "1", At: at}) {
			t.Error("the new home does not ship the order")
		}
	case "cancel":
		if !sh.do(order.Cancel{ID: "1", Reason: "changed my mind", At: at}) {
			t.Error("the new home does not cancel the order")
		}
	case "back":
		move("bj")
	}
	meet(bj, sh)
	for _, h := range []*here{bj, sh} {
		for _, fault := range h.told([]string{"1"}, 2*stock) {
			t.Error(fault)
		}
		if got := load(h, order.Aggregate(), "1").Status; got != want {
			t.Errorf("the order is %s at %s, want %s", got, h.name, want)
		}
		if parked := h.runner.Parked(); len(parked) > 0 || h.runner.Open() > 0 {
			t.Errorf("%s has parked %+v, and %d are open", h.name, parked, h.runner.Open())
		}
	}
	events := map[string]int{}
	for e, err := range bj.store.Read(context.Background(), eventstore.Stream(payment.Category, "1@bj"), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if events[e.Type]++; events[e.Type] > 1 {
			t.Errorf("%s was done twice", e.Type)
		}
	}
}

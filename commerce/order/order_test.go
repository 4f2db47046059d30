package order_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var (
	at    = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	later = at.Add(time.Minute)
)

func gbp(number string) money.Amount { return money.MustParse(number, "GBP") }

// place is an order of two lines with the same code, and a price of three decimals.
func place() order.Place {
	return order.Place{
		ID: "536365", CustomerID: "17850", Country: "United Kingdom", Currency: "GBP", At: at,
		Lines: []order.Line{
			{Number: 1, StockCode: "85123A", Description: "WHITE HANGING HEART", Quantity: 6, UnitPrice: gbp("2.55")},
			{Number: 3, StockCode: "PADS", Description: "PADS TO MATCH ALL CUSHIONS", Quantity: 1, UnitPrice: gbp("0.001")},
			{Number: 4, StockCode: "85123A", Quantity: 2, UnitPrice: gbp("2.55"), At: later},
		},
	}
}

func created() *commercev1.OrderCreated {
	return &commercev1.OrderCreated{
		Id: "536365", CustomerId: "17850", Country: "United Kingdom", Currency: "GBP", AtMs: at.UnixMilli(),
		Lines: []*commercev1.Line{
			{Number: 1, StockCode: "85123A", Description: "WHITE HANGING HEART", Quantity: 6, UnitPrice: "2.55"},
			{Number: 3, StockCode: "PADS", Description: "PADS TO MATCH ALL CUSHIONS", Quantity: 1, UnitPrice: "0.001"},
			{Number: 4, StockCode: "85123A", Quantity: 2, UnitPrice: "2.55", AtMs: later.UnixMilli()},
		},
		Total: &commercev1.Money{Currency: "GBP", Amount: "20.401"},
	}
}

func confirmed() *commercev1.OrderConfirmed {
	return &commercev1.OrderConfirmed{CustomerId: "17850", AtMs: at.UnixMilli()}
}

func shipped() *commercev1.OrderShipped {
	return &commercev1.OrderShipped{CustomerId: "17850", AtMs: at.UnixMilli()}
}

func cancelled(from string) *commercev1.OrderCancelled {
	c := created()
	return &commercev1.OrderCancelled{
		From: from, Reason: "changed my mind", AtMs: later.UnixMilli(), PlacedAtMs: at.UnixMilli(),
		CustomerId: c.CustomerId, Country: c.Country, Currency: c.Currency, Lines: c.Lines, Total: c.Total,
	}
}

func TestVouchersOfOrders(t *testing.T) {
	with := func(discount money.Amount) order.Place {
		p := place()
		p.VoucherCode, p.Discount = "V-1", discount
		return p
	}
	want := created()
	want.VoucherCode, want.Discount = "V-1", gbp("5").Proto()
	end := cancelled("created")
	end.VoucherCode = "V-1"
	orders(t).When(with(gbp("5"))).Then(want).
		When(order.Cancel{ID: "536365", Reason: "changed my mind", At: later}).Then(end)
	orders(t).When(with(gbp("20.402"))).ThenInvalid("discount 20.402 GBP is not 0 to the total of 20.401 GBP")
	orders(t).When(with(gbp("-1"))).ThenInvalid("discount -1")
	orders(t).When(with(money.MustParse("1", "EUR"))).ThenInvalid("discount 1 EUR")
	orders(t).When(with(gbp("20.401"))).ThenAccepted()
	without := place()
	without.Discount = gbp("1")
	orders(t).When(without).ThenInvalid("a discount needs a voucher")
}

// Rules over several orders find them by these tags.
func TestTags(t *testing.T) {
	withVoucher := created()
	withVoucher.VoucherCode = "V-1"
	for _, c := range []struct {
		event order.Event
		want  string
	}{
		{created(), "[customer:17850]"},
		{withVoucher, "[customer:17850 voucher:V-1]"},
		{confirmed(), "[customer:17850]"},
		{shipped(), "[customer:17850]"},
		{&commercev1.OrderCancelled{VoucherCode: "V-1"}, "[voucher:V-1]"},
		{&commercev1.OrderShipped{}, "[]"},
	} {
		if got := fmt.Sprint(order.Aggregate().Tags(c.event)); got != c.want {
			t.Errorf("tags of %T are %s, want %s", c.event, got, c.want)
		}
	}
}

func orders(t *testing.T) *commandtest.Scenario[order.State, order.Command, order.Event] {
	return commandtest.For[order.State, order.Command, order.Event](t, order.Aggregate())
}

// TestTransitions goes through every command in every status; each scenario checks C1 and C2.
func TestTransitions(t *testing.T) {
	var (
		placeIt = place()
		confirm = order.Confirm{ID: "536365", At: at}
		ship    = order.Ship{ID: "536365", At: at}
		cancel  = order.Cancel{ID: "536365", Reason: "changed my mind", At: later}
	)
	for name, c := range map[string]struct {
		given    []order.Event
		when     order.Command
		then     order.Event
		rejected string
	}{
		"place":              {nil, placeIt, created(), ""},
		"confirm nothing":    {nil, confirm, nil, order.CodeNotFound},
		"ship nothing":       {nil, ship, nil, order.CodeNotFound},
		"cancel nothing":     {nil, cancel, nil, order.CodeNotFound},
		"place created":      {[]order.Event{created()}, placeIt, nil, order.CodeExists},
		"confirm created":    {[]order.Event{created()}, confirm, confirmed(), ""},
		"ship created":       {[]order.Event{created()}, ship, nil, order.CodeInvalidTransition},
		"cancel created":     {[]order.Event{created()}, cancel, cancelled("created"), ""},
		"place confirmed":    {[]order.Event{created(), confirmed()}, placeIt, nil, order.CodeExists},
		"confirm confirmed":  {[]order.Event{created(), confirmed()}, confirm, nil, order.CodeInvalidTransition},
		"ship confirmed":     {[]order.Event{created(), confirmed()}, ship, shipped(), ""},
		"cancel confirmed":   {[]order.Event{created(), confirmed()}, cancel, cancelled("confirmed"), ""},
		"place shipped":      {[]order.Event{created(), confirmed(), shipped()}, placeIt, nil, order.CodeExists},
		"confirm shipped":    {[]order.Event{created(), confirmed(), shipped()}, confirm, nil, order.CodeInvalidTransition},
		"ship shipped":       {[]order.Event{created(), confirmed(), shipped()}, ship, nil, order.CodeInvalidTransition},
		"cancel shipped":     {[]order.Event{created(), confirmed(), shipped()}, cancel, nil, order.CodeInvalidTransition},
		"place cancelled":    {[]order.Event{created(), cancelled("created")}, placeIt, nil, order.CodeExists},
		"confirm cancelled":  {[]order.Event{created(), cancelled("created")}, confirm, nil, order.CodeInvalidTransition},
		"ship cancelled":     {[]order.Event{created(), cancelled("created")}, ship, nil, order.CodeInvalidTransition},
		"cancel cancelled":   {[]order.Event{created(), cancelled("created")}, cancel, nil, order.CodeInvalidTransition},
		"place for a guest":  {nil, guest(), guestCreated(), ""},
		"place what is free": {nil, free(), freeCreated(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := commandtest.For(t, order.Aggregate()).Given(c.given...).When(c.when)
			if c.rejected != "" {
				outcome.ThenRejected(c.rejected)
			} else {
				outcome.Then(c.then)
			}
		})
	}
}

func guest() order.Place {
	p := place()
	p.CustomerID = ""
	return p
}

func guestCreated() *commercev1.OrderCreated {
	c := created()
	c.CustomerId = ""
	return c
}

func free() order.Place {
	p := place()
	p.Lines = p.Lines[:1]
	p.Lines[0].UnitPrice = gbp("0")
	return p
}

func freeCreated() *commercev1.OrderCreated {
	c := created()
	c.Lines = c.Lines[:1]
	c.Lines[0].UnitPrice = "0"
	c.Total.Amount = "0"
	return c
}

func TestOneScenarioFromPlacedToShipped(t *testing.T) {
	commandtest.For(t, order.Aggregate()).
		When(place()).Then(created()).
		When(order.Confirm{ID: "536365", At: at}).Then(confirmed()).
		When(order.Ship{ID: "536365", At: at}).Then(shipped()).
		State(order.State{Status: order.Shipped, CustomerID: "17850"})
}

func TestInvalidCommands(t *testing.T) {
	change := func(f func(*order.Place)) order.Place {
		p := place()
		f(&p)
		return p
	}
	for name, c := range map[string]struct {
		when     order.Command
		mentions string
	}{
		"no id":                 {change(func(p *order.Place) { p.ID = "" }), "stream id is empty"},
		"no country":            {change(func(p *order.Place) { p.Country = "" }), "country is empty"},
		"no time":               {change(func(p *order.Place) { p.At = time.Time{} }), "time is missing"},
		"currency":              {change(func(p *order.Place) { p.Currency = "gbp" }), `"gbp" is not three letters`},
		"customer not UTF-8":    {change(func(p *order.Place) { p.CustomerID = "\xff" }), "customer id is not valid UTF-8"},
		"long country":          {change(func(p *order.Place) { p.Country = strings.Repeat("x", 501) }), "country has 501 bytes"},
		"no lines":              {change(func(p *order.Place) { p.Lines = nil }), "1 to 5000 lines, not 0"},
		"too many lines":        {change(func(p *order.Place) { p.Lines = make([]order.Line, order.MaxLines+1) }), "not 5001"},
		"number 0":              {change(func(p *order.Place) { p.Lines[0].Number = 0 }), "line 0 comes after line 0"},
		"number twice":          {change(func(p *order.Place) { p.Lines[1].Number = 1 }), "line 1 comes after line 1"},
		"number too large":      {change(func(p *order.Place) { p.Lines[2].Number = math.MaxInt32 + 1 }), "number is too large"},
		"no stock code":         {change(func(p *order.Place) { p.Lines[1].StockCode = "" }), "line 3: stock code"},
		"unprintable code":      {change(func(p *order.Place) { p.Lines[1].StockCode = "a\nb" }), "line 3: stock code"},
		"description not UTF-8": {change(func(p *order.Place) { p.Lines[0].Description = "\xff" }), "line 1: description is not valid UTF-8"},
		"quantity 0":            {change(func(p *order.Place) { p.Lines[0].Quantity = 0 }), "line 1: quantity 0"},
		"quantity negative":     {change(func(p *order.Place) { p.Lines[0].Quantity = -1 }), "line 1: quantity -1"},
		"quantity too large":    {change(func(p *order.Place) { p.Lines[0].Quantity = order.MaxQuantity + 1 }), "line 1: quantity 1000000001"},
		"price negative":        {change(func(p *order.Place) { p.Lines[0].UnitPrice = gbp("-0.01") }), "unit price -0.01 is negative"},
		"price without currency": {change(func(p *order.Place) {
			p.Lines[0].UnitPrice = money.Amount{}
		}), `unit price in "", the order is in "GBP"`},
		"price in another currency": {change(func(p *order.Place) {
			p.Lines[0].UnitPrice = money.MustParse("1", "EUR")
		}), `unit price in "EUR", the order is in "GBP"`},
		"line's time": {change(func(p *order.Place) {
			p.Lines[0].At = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
		}), "outside the years"},
		"total too large": {change(func(p *order.Place) {
			p.Lines[0].UnitPrice, p.Lines[0].Quantity = gbp("999999999999999999"), 2
		}), "total: "},
		"confirm without time":  {order.Confirm{ID: "1"}, "time is missing"},
		"ship without time":     {order.Ship{ID: "1"}, "time is missing"},
		"cancel without time":   {order.Cancel{ID: "1", Reason: "x"}, "time is missing"},
		"cancel without reason": {order.Cancel{ID: "1", At: at}, "reason is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			commandtest.For(t, order.Aggregate()).When(c.when).ThenInvalid(c.mentions)
		})
	}
}

func TestAllFaultsAreJoined(t *testing.T) {
	p := place()
	p.Country, p.At = "", time.Time{}
	p.Lines[0].Quantity, p.Lines[2].StockCode = 0, ""
	commandtest.For(t, order.Aggregate()).When(p).
		ThenInvalid("country is empty", "time is missing", "line 1: quantity", "line 4: stock code")
}

func TestTheListOfFaultsEnds(t *testing.T) {
	p := place()
	p.Lines = make([]order.Line, order.MaxLines)
	err := order.Aggregate().Validate(p)
	if err == nil {
		t.Fatal("5,000 empty lines were found valid")
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines > 30 {
		t.Errorf("the error has %d lines", lines)
	}
}

// TestTheLargestOrderFitsOneEvent places an order that is as large as the limits allow.
func TestTheLargestOrderFitsOneEvent(t *testing.T) {
	p := place()
	p.Lines = make([]order.Line, order.MaxLines)
	for i := range p.Lines {
		code := fmt.Sprintf("%0*d", eventstore.MaxStreamIDBytes, i)
		p.Lines[i] = order.Line{
			Number: math.MaxInt32 - order.MaxLines + i, StockCode: code, Description: strings.Repeat("x", order.MaxTextBytes),
			Quantity: 100_000_000, UnitPrice: gbp("123456.123456789"), At: later,
		}
	}
	a := order.Aggregate()
	if err := a.Validate(p); err != nil {
		t.Fatal(err)
	}
	events, err := a.Decide(order.State{}, p)
	if err != nil {
		t.Fatal(err)
	}
	state := a.Evolve(order.State{}, events[0])
	undone, err := a.Decide(state, order.Cancel{ID: p.ID, Reason: strings.Repeat("x", order.MaxTextBytes), At: at})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(events, undone...) {
		if n := proto.Size(e); n > eventstore.MaxPayloadBytes {
			t.Errorf("%T of the largest order has %d bytes, the log takes %d", e, n, eventstore.MaxPayloadBytes)
		}
	}
	if got := events[0].(*commercev1.OrderCreated).GetTotal().GetAmount(); got != "61728061728394500" {
		t.Errorf("total = %s", got)
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{1, 20, 1_000} {
		b.Run(fmt.Sprint(n, " lines"), func(b *testing.B) {
			p := place()
			p.Lines = make([]order.Line, n)
			for i := range p.Lines {
				p.Lines[i] = order.Line{Number: i + 1, StockCode: "85123A", Description: "WHITE HANGING HEART T-LIGHT HOLDER", Quantity: 6, UnitPrice: gbp("2.55")}
			}
			a := order.Aggregate()
			b.ReportAllocs()
			for b.Loop() {
				if err := a.Validate(p); err != nil {
					b.Fatal(err)
				}
				events, err := a.Decide(order.State{}, p)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.Codec.Encode(events[0]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/line")
		})
	}
}

// TestDelivery: whom an order is delivered to stands in its event, and in no state and no later event.
func TestDelivery(t *testing.T) {
	p, c := place(), created()
	p.Delivery = &order.Contact{Name: "Grace Hopper", Email: "grace@example.org", Street: "1 Navy Yard", City: "Arlington", Phone: "555"}
	c.Delivery = &commercev1.Contact{Name: "Grace Hopper", Email: "grace@example.org", Street: "1 Navy Yard", City: "Arlington", Phone: "555"}
	commandtest.For(t, order.Aggregate()).
		When(p).Then(c).
		When(order.Cancel{ID: "536365", Reason: "changed my mind", At: later}).Then(cancelled("created"))

	guests := p
	guests.CustomerID = ""
	commandtest.For(t, order.Aggregate()).When(guests).ThenInvalid("a delivery needs a customer id")
	empty := p
	empty.Delivery = &order.Contact{}
	commandtest.For(t, order.Aggregate()).When(empty).ThenInvalid("delivery is empty")
	long := p
	long.Delivery = &order.Contact{Name: strings.Repeat("x", order.MaxTextBytes+1), Email: "\xff"}
	commandtest.For(t, order.Aggregate()).When(long).ThenInvalid("delivery name has 501 bytes", "delivery email is not valid UTF-8")
}

package returns_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/returns"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var (
	at    = time.Date(2010, 12, 1, 9, 41, 0, 0, time.UTC)
	later = at.Add(time.Minute)
)

func gbp(number string) money.Amount { return money.MustParse(number, "GBP") }

func receive() returns.Receive {
	return returns.Receive{
		ID: "C536379", CustomerID: "14527", Country: "United Kingdom", Currency: "GBP", At: at,
		Lines: []returns.Line{
			{Number: 1, StockCode: "D", Description: "Discount", Quantity: 1, UnitPrice: gbp("27.5")},
			{Number: 2, StockCode: "22556", Description: "PLASTERS IN TIN", Quantity: 12, UnitPrice: gbp("1.65"), At: later},
			{Number: 3, StockCode: "22556", Quantity: 2, UnitPrice: gbp("0")},
		},
	}
}

func received() *commercev1.ReturnReceived {
	return &commercev1.ReturnReceived{
		Id: "C536379", CustomerId: "14527", Country: "United Kingdom", Currency: "GBP", AtMs: at.UnixMilli(),
		Lines: []*commercev1.Line{
			{Number: 1, StockCode: "D", Description: "Discount", Quantity: 1, UnitPrice: "27.5"},
			{Number: 2, StockCode: "22556", Description: "PLASTERS IN TIN", Quantity: 12, UnitPrice: "1.65", AtMs: later.UnixMilli()},
			{Number: 3, StockCode: "22556", Quantity: 2, UnitPrice: "0"},
		},
		Total: &commercev1.Money{Currency: "GBP", Amount: "47.3"},
	}
}

func completed() *commercev1.ReturnCompleted {
	return &commercev1.ReturnCompleted{CustomerId: "14527", AtMs: at.UnixMilli()}
}

// TestTransitions goes through every command in every status; each scenario checks C1 and C2.
func TestTransitions(t *testing.T) {
	complete := returns.Complete{ID: "C536379", At: at}
	for name, c := range map[string]struct {
		given    []returns.Event
		when     returns.Command
		then     returns.Event
		rejected string
	}{
		"receive":            {nil, receive(), received(), ""},
		"complete nothing":   {nil, complete, nil, returns.CodeNotFound},
		"receive received":   {[]returns.Event{received()}, receive(), nil, returns.CodeExists},
		"complete received":  {[]returns.Event{received()}, complete, completed(), ""},
		"receive completed":  {[]returns.Event{received(), completed()}, receive(), nil, returns.CodeExists},
		"complete completed": {[]returns.Event{received(), completed()}, complete, nil, returns.CodeInvalidTransition},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := commandtest.For(t, returns.Aggregate()).Given(c.given...).When(c.when)
			if c.rejected != "" {
				outcome.ThenRejected(c.rejected)
			} else {
				outcome.Then(c.then)
			}
		})
	}
}

func TestStatusCanTransitionTo(t *testing.T) {
	all := []returns.Status{returns.None, returns.Received, returns.Completed}
	allowed := map[[2]returns.Status]bool{
		{returns.None, returns.Received}: true, {returns.Received, returns.Completed}: true,
	}
	for _, from := range all {
		for _, to := range all {
			if got := from.CanTransitionTo(to); got != allowed[[2]returns.Status{from, to}] {
				t.Errorf("%q to %q: %v", from, to, got)
			}
		}
	}
}

func TestInvalidCommands(t *testing.T) {
	change := func(f func(*returns.Receive)) returns.Receive {
		c := receive()
		f(&c)
		return c
	}
	for name, c := range map[string]struct {
		when     returns.Command
		mentions string
	}{
		"no id":                 {change(func(c *returns.Receive) { c.ID = "" }), "stream id is empty"},
		"no country":            {change(func(c *returns.Receive) { c.Country = "" }), "country is empty"},
		"no time":               {change(func(c *returns.Receive) { c.At = time.Time{} }), "time is missing"},
		"currency":              {change(func(c *returns.Receive) { c.Currency = "pound" }), `"pound" is not three letters`},
		"long customer":         {change(func(c *returns.Receive) { c.CustomerID = strings.Repeat("x", 501) }), "customer id has 501 bytes"},
		"no lines":              {change(func(c *returns.Receive) { c.Lines = nil }), "1 to 5000 lines, not 0"},
		"number twice":          {change(func(c *returns.Receive) { c.Lines[1].Number = 1 }), "line 1 comes after line 1"},
		"number too large":      {change(func(c *returns.Receive) { c.Lines[2].Number = math.MaxInt32 + 1 }), "number is too large"},
		"no stock code":         {change(func(c *returns.Receive) { c.Lines[1].StockCode = "" }), "line 2: stock code"},
		"description not UTF-8": {change(func(c *returns.Receive) { c.Lines[0].Description = "\xff" }), "line 1: description is not valid UTF-8"},
		"quantity as on paper":  {change(func(c *returns.Receive) { c.Lines[0].Quantity = -1 }), "line 1: quantity -1"},
		"price negative":        {change(func(c *returns.Receive) { c.Lines[0].UnitPrice = gbp("-0.01") }), "unit price -0.01 is negative"},
		"price in another currency": {change(func(c *returns.Receive) {
			c.Lines[0].UnitPrice = money.MustParse("1", "EUR")
		}), `unit price in "EUR", the return is in "GBP"`},
		"line's time": {change(func(c *returns.Receive) {
			c.Lines[0].At = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
		}), "outside the years"},
		"total too large": {change(func(c *returns.Receive) {
			c.Lines[0].UnitPrice, c.Lines[0].Quantity = gbp("999999999999999999"), 2
		}), "total: "},
		"complete without time": {returns.Complete{ID: "1"}, "time is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			commandtest.For(t, returns.Aggregate()).When(c.when).ThenInvalid(c.mentions)
		})
	}
}

func TestTheListOfFaultsEnds(t *testing.T) {
	c := receive()
	c.Lines = make([]returns.Line, returns.MaxLines)
	err := returns.Aggregate().Validate(c)
	if err == nil {
		t.Fatal("5,000 empty lines were found valid")
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines > 30 {
		t.Errorf("the error has %d lines", lines)
	}
}

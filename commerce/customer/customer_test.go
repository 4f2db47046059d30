package customer_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/customer"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var at = time.Date(2011, 3, 4, 5, 6, 7, 0, time.UTC)

func gbp(number string) money.Amount { return money.MustParse(number, "GBP") }

func customers(t *testing.T) *commandtest.Scenario[customer.State, customer.Command, customer.Event] {
	return commandtest.ForDecider[customer.State, customer.Command, customer.Event](t, customer.Decider(), commandtest.Source(order.Aggregate()))
}

func limitSet(limit money.Amount) customer.Event {
	return &commercev1.CreditLimitSet{CustomerId: "9", Limit: limit.Proto(), AtMs: at.UnixMilli()}
}

func lifted() customer.Event {
	return &commercev1.CreditLimitLifted{CustomerId: "9", AtMs: at.UnixMilli()}
}

func placed(total money.Amount) customer.Event {
	return &commercev1.OrderCreated{CustomerId: "9", Total: total.Proto()}
}

func check(number string) customer.CheckCredit {
	return customer.CheckCredit{CustomerID: "9", Amount: gbp(number)}
}

func TestLimit(t *testing.T) {
	set := customer.SetCreditLimit{CustomerID: "9", Limit: gbp("100"), At: at}
	lift := customer.LiftCreditLimit{CustomerID: "9", At: at}
	customers(t).
		When(lift).Then().
		When(set).Then(limitSet(gbp("100"))).
		When(set).Then().
		When(lift).Then(lifted()).
		When(lift).Then()
}

// TestOpenOrders shows what counts as open; each scenario checks C1 and C2.
func TestOpenOrders(t *testing.T) {
	limited := func() *commandtest.Scenario[customer.State, customer.Command, customer.Event] {
		return customers(t).Given(limitSet(gbp("100"))).In("order", "A-1").Given(placed(gbp("60")))
	}
	limited().When(check("40")).Then()
	limited().When(check("40.01")).ThenRejected(customer.CodeLimitExceeded)
	limited().Given(&commercev1.OrderConfirmed{CustomerId: "9"}).When(check("40.01")).ThenRejected(customer.CodeLimitExceeded)
	limited().Given(&commercev1.OrderShipped{CustomerId: "9"}).When(check("100")).Then()
	limited().Given(&commercev1.OrderCancelled{CustomerId: "9"}).When(check("100")).Then()
	limited().In("order", "A-2").Given(&commercev1.OrderShipped{CustomerId: "9"}).When(check("40.01")).ThenRejected(customer.CodeLimitExceeded)
	limited().In("order", "A-2").Given(placed(gbp("30"))).When(check("10.01")).ThenRejected(customer.CodeLimitExceeded)
	// What a voucher pays is not owed, and what another owes does not matter.
	limited().In("order", "A-2").Given(&commercev1.OrderCreated{CustomerId: "9", Total: gbp("30").Proto(), VoucherCode: "V", Discount: gbp("25").Proto()}).
		When(check("35")).Then()
	limited().In("order", "A-2").Given(&commercev1.OrderCreated{CustomerId: "10", Total: gbp("30").Proto()}).When(check("40")).Then()
	// Orders that were placed without a limit count when there is one; one that is lower than what is open stops new orders.
	customers(t).In("order", "A-1").Given(placed(gbp("60"))).When(check("1000")).Then().
		Given(limitSet(gbp("50"))).When(check("0.01")).ThenRejected(customer.CodeLimitExceeded).
		Given(lifted()).When(check("1000")).Then()
}

func TestCurrencies(t *testing.T) {
	euros := func(n string) money.Amount { return money.MustParse(n, "EUR") }
	customers(t).Given(limitSet(euros("100"))).In("order", "A-1").Given(placed(gbp("60"))).
		When(check("1")).ThenRejected(customer.CodeCurrencyDiffers).
		When(customer.CheckCredit{CustomerID: "9", Amount: euros("100")}).Then().
		Given(limitSet(gbp("70"))).When(check("10.01")).ThenRejected(customer.CodeLimitExceeded)
}

func TestRefusalSaysHowMuch(t *testing.T) {
	d := customer.Decider()
	s := d.Evolve(customer.State{}, eventstore.Stream("customer", "9"), limitSet(gbp("100")))
	s = d.Evolve(s, eventstore.Stream("order", "A-1"), placed(gbp("60")))
	_, err := d.Decide(s, check("40.5"))
	var rejection *commands.Rejection
	want := map[string]string{"limit": "100", "open": "60", "amount": "40.5", "currency": "GBP"}
	if !errors.As(err, &rejection) || !maps.Equal(rejection.Details, want) {
		t.Errorf("refusal is %+v, want details %v", err, want)
	}
}

func TestFaults(t *testing.T) {
	customers(t).
		When(customer.SetCreditLimit{CustomerID: "", Limit: gbp("-1")}).ThenInvalid("stream id is empty", "limit -1", "time is missing").
		When(customer.SetCreditLimit{CustomerID: "9", At: at}).ThenInvalid("limit 0 is not an amount").
		When(customer.LiftCreditLimit{CustomerID: "9"}).ThenInvalid("time is missing").
		When(customer.SetCreditLimit{CustomerID: "9", Limit: gbp("0"), At: at}).Then(limitSet(gbp("0"))).
		When(check("0.01")).ThenRejected(customer.CodeLimitExceeded)
}

// TestBrokenOrderStaysBroken: what an order has brought that is no amount stops decisions, whatever limit is set after it.
func TestBrokenOrderStaysBroken(t *testing.T) {
	d := customer.Decider()
	broken := &commercev1.OrderCreated{CustomerId: "9", Total: &commercev1.Money{Currency: "no currency"}}
	s := d.Evolve(customer.State{}, eventstore.Stream("order", "A-1"), broken)
	if _, err := d.Decide(s, check("1")); err == nil {
		t.Fatal("an order without an amount does not show")
	}
	s = d.Evolve(s, eventstore.Stream("customer", "9"), limitSet(gbp("100")))
	if _, err := d.Decide(s, check("1")); err == nil {
		t.Error("a limit that is set later hides it")
	}
}

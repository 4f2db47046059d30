package order_test

import (
	"strings"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/order"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// TestMovedAtTwoSites goes through what two sites can do to an order while they know nothing of each other.
func TestMovedAtTwoSites(t *testing.T) {
	ship := order.Ship{ID: "536365", At: at}
	confirm := order.Confirm{ID: "536365", At: at}
	cancel := order.Cancel{ID: "536365", Reason: "changed my mind", At: later}
	final := func(s order.Status) order.State { return order.State{Status: s, CustomerID: "17850"} }

	t.Run("cancelled, then shipped", func(t *testing.T) {
		orders(t).At("bj").Given(created(), confirmed()).Apart().
			At("bj").When(cancel).Then(cancelled("confirmed")).
			At("sh").When(ship).Then(shipped()).State(final(order.Shipped)).Void().
			Together().State(final(order.Cancelled)).Void(shipped()).Outcomes(commands.Voided).
			At("bj").State(final(order.Cancelled)).When(ship).ThenRejected(order.CodeInvalidTransition)
	})
	t.Run("shipped, then cancelled", func(t *testing.T) {
		orders(t).At("bj").Given(created(), confirmed()).Apart().
			At("sh").When(ship).Then(shipped()).
			At("bj").When(cancel).Then(cancelled("confirmed")).
			Together().State(final(order.Shipped)).Void(cancelled("confirmed"))
	})
	t.Run("confirmed, cancelled from created, then shipped", func(t *testing.T) {
		orders(t).At("bj").Given(created()).Apart().
			At("sh").When(confirm).Then(confirmed()).
			At("bj").When(cancel).Then(cancelled("created")).
			At("sh").When(ship).Then(shipped()).
			Together().State(final(order.Cancelled)).Void(shipped()).Outcomes(commands.Merged, commands.Voided)
	})
	t.Run("confirmed at both, then shipped", func(t *testing.T) {
		orders(t).At("bj").Given(created()).Apart().
			At("bj").When(confirm).Then(confirmed()).
			At("sh").When(confirm).Then(confirmed()).When(ship).Then(shipped()).
			Together().State(final(order.Shipped)).Void(confirmed()).Outcomes(commands.Voided, commands.Merged)
	})
	t.Run("two orders with one id", func(t *testing.T) {
		other := created()
		other.CustomerId = "9"
		theirs := &commercev1.OrderConfirmed{CustomerId: "9", AtMs: at.UnixMilli()}
		orders(t).At("bj").Apart().
			At("bj").Given(created()).
			At("sh").Given(other, theirs).
			Together().Void(other, theirs).
			When(confirm).Then(confirmed())
	})
	t.Run("two orders of one customer with one id", func(t *testing.T) {
		orders(t).At("bj").Apart().
			At("bj").Given(created()).
			At("sh").Given(created(), confirmed()).When(cancel).Then(cancelled("confirmed")).
			Together().Void(created(), confirmed(), cancelled("confirmed")).
			At("sh").When(confirm).Then(confirmed())
	})
}

// An order that is void since its id was used says so, and not what has become of the other.
func TestReasonOfASecondOrder(t *testing.T) {
	holds := order.Aggregate().Resolver.(commands.Domain[order.State, order.Event]).Holds
	for status, want := range map[order.Status]string{order.None: "", order.Created: "with this id was there already", order.Shipped: "with this id was there already"} {
		if got := holds(order.State{Status: status, CustomerID: "9"}, created()); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("behind an order that is %s: %q, want %q", status, got, want)
		}
	}
}

package inventory_test

import (
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/inventory"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

func stocks(t *testing.T) *commandtest.Scenario[inventory.State, inventory.Command, inventory.Event] {
	return commandtest.For(t, inventory.Aggregate())
}

func move(to string, n int64) inventory.MoveRights {
	return inventory.MoveRights{Code: code, To: to, Quantity: n, At: at}
}

func moved(to string, n int64) *commercev1.InventoryRightsMoved {
	return &commercev1.InventoryRightsMoved{To: to, Quantity: n, AtMs: ms}
}

// TestSitesSellTheirOwn: what came in at a site is sold there, and nowhere else before it is given away (C14, C15).
func TestSitesSellTheirOwn(t *testing.T) {
	stocks(t).At("bj").Given(received(10, "D1")).
		At("sh").When(try("1", 1)).ThenRejected(inventory.CodeInsufficient).
		When(adjust(-1, "lost")).ThenRejected(inventory.CodeBelowZero).
		When(move("sz", 1)).ThenRejected(inventory.CodeInsufficient).
		At("bj").When(move("bj", 1)).ThenRejected(inventory.CodeSameSite).
		When(move("sh", 4)).Then(moved("sh", 4)).
		When(try("2", 7)).ThenRejected(inventory.CodeInsufficient).
		At("sh").When(try("1", 4)).Then(reserved("1", 4)).
		When(try("3", 1)).ThenRejected(inventory.CodeInsufficient).
		When(adjust(-1, "lost")).ThenRejected(inventory.CodeBelowReserved).
		At("bj").When(try("2", 6)).Then(reserved("2", 6))
}

// TestRightsOnTheirWay: what was given away is nobody's until the other site has heard of it.
func TestRightsOnTheirWay(t *testing.T) {
	stocks(t).At("bj").Given(received(10, "")).Apart().
		At("bj").When(move("sh", 4)).Then(moved("sh", 4)).When(try("1", 7)).ThenRejected(inventory.CodeInsufficient).
		At("sh").When(try("2", 1)).ThenRejected(inventory.CodeInsufficient).
		Together().
		At("sh").When(try("2", 4)).Then(reserved("2", 4))
}

// TestSoldAtTwoSitesApart: sites that know nothing of each other sell what each has, and no more.
func TestSoldAtTwoSitesApart(t *testing.T) {
	stocks(t).At("bj").Given(received(10, ""), moved("sh", 4)).Apart().
		At("bj").When(try("1", 6)).Then(reserved("1", 6)).When(confirm("1")).Then(confirmed("1", 6)).
		At("sh").When(try("2", 4)).Then(reserved("2", 4)).When(try("3", 1)).ThenRejected(inventory.CodeInsufficient).
		Together().Void().Outcomes(commands.Merged).
		At("bj").When(try("4", 1)).ThenRejected(inventory.CodeInsufficient).
		At("sh").When(cancel("2")).Then(released("2", 4))
}

// TestReservationsAreSettledWhereTheyWereMade: at another site they are known, and refused.
func TestReservationsAreSettledWhereTheyWereMade(t *testing.T) {
	known := func() *commandtest.Scenario[inventory.State, inventory.Command, inventory.Event] {
		return stocks(t).At("bj").Given(received(10, ""), reserved("1", 4)).At("sh")
	}
	known().When(confirm("1")).ThenRejected(inventory.CodeReservationElsewhere)
	known().When(cancel("1")).ThenRejected(inventory.CodeReservationElsewhere)
	known().When(try("1", 4)).Then()
	known().At("bj").When(confirm("1")).Then(confirmed("1", 4)).At("sh").When(confirm("1")).Then()
	known().At("bj").When(cancel("1")).Then(released("1", 4)).At("sh").When(cancel("1")).Then().When(try("1", 4)).ThenRejected(inventory.CodeReservationCancelled)
}

// TestOneReservationAtTwoSites: both hold units for it, each settles its own, and a person is told.
func TestOneReservationAtTwoSites(t *testing.T) {
	both := stocks(t).At("bj").Given(received(10, ""), moved("sh", 5)).Apart().
		At("bj").When(try("1", 2)).Then(reserved("1", 2)).
		At("sh").When(try("1", 2)).Then(reserved("1", 2)).
		Together().Outcomes(commands.NeedsReview)
	both.At("bj").When(confirm("1")).Then(confirmed("1", 2)).
		At("sh").When(cancel("1")).Then(released("1", 2)).When(cancel("1")).ThenRejected(inventory.CodeReservationConfirmed)

	// A bar that comes from a site which had not heard of the reservation does not take its units away.
	stocks(t).At("bj").Given(received(10, "")).Apart().
		At("bj").When(try("1", 2)).Then(reserved("1", 2)).
		At("sh").When(cancel("1")).Then(barred("1")).
		Together().Outcomes(commands.Merged).
		At("sh").When(cancel("1")).ThenRejected(inventory.CodeReservationElsewhere).
		At("bj").When(cancel("1")).Then(released("1", 2)).When(try("2", 10)).Then(reserved("2", 10))
}

// TestCountedAtTwoSites: one delivery that two sites have taken in counts at both, and a person is told.
func TestCountedAtTwoSites(t *testing.T) {
	stocks(t).At("bj").Apart().
		At("bj").When(receive(10, "D1")).Then(received(10, "D1")).
		At("sh").When(receive(10, "D1")).Then(received(10, "D1")).
		Together().Void().Outcomes(commands.NeedsReview).
		At("sh").When(receive(10, "D1")).Then().When(try("1", 10)).Then(reserved("1", 10))
}

func TestMoveRightsIsChecked(t *testing.T) {
	stocks(t).When(move("", 1)).ThenInvalid("site").
		When(move("S H", 1)).ThenInvalid("site").
		When(move("sh", 0)).ThenInvalid("quantity 0").
		When(inventory.MoveRights{Code: code, To: "sh", Quantity: 1}).ThenInvalid("time is missing")
}

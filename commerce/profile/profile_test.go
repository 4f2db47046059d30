package profile_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/profile"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var at = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

const ms = 1291191960000

func profiles(t *testing.T) *commandtest.Scenario[profile.State, profile.Change, profile.Event] {
	return commandtest.For(t, profile.Aggregate())
}

func speaks(language string) profile.Change {
	return profile.Change{CustomerID: "17850", Language: &language, At: at}
}

func spoken(language string) *commercev1.ProfileChanged {
	return &commercev1.ProfileChanged{Language: &language, AtMs: ms}
}

func pays(currency string) profile.Change {
	return profile.Change{CustomerID: "17850", Currency: &currency, At: at}
}

func TestChange(t *testing.T) {
	all := profile.Change{CustomerID: "17850", Language: proto.String("pt-BR"), Currency: proto.String("BRL"), Newsletter: proto.Bool(true), At: at}
	profiles(t).
		When(speaks("")).Then().
		When(speaks("fr")).Then(spoken("fr")).
		When(speaks("fr")).Then().
		When(all).Then(&commercev1.ProfileChanged{Language: proto.String("pt-BR"), Currency: proto.String("BRL"), Newsletter: proto.Bool(true), AtMs: ms}).
		When(profile.Change{CustomerID: "17850", Newsletter: proto.Bool(false), At: at}).Then(&commercev1.ProfileChanged{Newsletter: proto.Bool(false), AtMs: ms}).
		When(speaks("")).Then(spoken("")).
		State(profile.State{Currency: "BRL"})
}

func TestInvalidChanges(t *testing.T) {
	profiles(t).
		When(profile.Change{CustomerID: "17850"}).ThenInvalid("no setting is given", "time is missing").
		When(speaks("fr_FR")).ThenInvalid(`language "fr_FR"`).
		When(pays("gbp")).ThenInvalid(`"gbp"`).
		When(pays("")).Then()
}

// TestChangedAtTwoSites: the later change of a setting wins, the others are both kept, and what was overwritten is on record.
func TestChangedAtTwoSites(t *testing.T) {
	profiles(t).At("bj").Given(spoken("en")).Apart().
		At("bj").When(speaks("fr")).Then(spoken("fr")).
		At("sh").When(pays("EUR")).Then(&commercev1.ProfileChanged{Currency: proto.String("EUR"), AtMs: ms}).
		When(speaks("de")).Then(spoken("de")).
		Together().Void().Outcomes(commands.Merged, commands.Winner).
		State(profile.State{Language: "de", Currency: "EUR"})
}

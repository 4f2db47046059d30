package voucher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/voucher"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var at = time.Date(2011, 3, 4, 5, 6, 7, 0, time.UTC)

func gbp(number string) money.Amount { return money.MustParse(number, "GBP") }

func vouchers(t *testing.T) *commandtest.Scenario[voucher.State, voucher.Command, voucher.Event] {
	return commandtest.ForDecider[voucher.State, voucher.Command, voucher.Event](t, voucher.Decider(), commandtest.Source(order.Aggregate()))
}

func created() voucher.Event {
	return &commercev1.VoucherCreated{Code: "V-1", Value: gbp("5").Proto(), AtMs: at.UnixMilli()}
}

func withdrawn() voucher.Event {
	return &commercev1.VoucherWithdrawn{Code: "V-1", Reason: "expired", AtMs: at.UnixMilli()}
}

func usedBy(code string) voucher.Event {
	return &commercev1.OrderCreated{VoucherCode: code, Total: gbp("20").Proto(), Discount: gbp("5").Proto()}
}

func cancelled(code string) voucher.Event { return &commercev1.OrderCancelled{VoucherCode: code} }

func redeem(order, total, discount string) voucher.Redeem {
	return voucher.Redeem{Code: "V-1", OrderID: order, Total: gbp(total), Discount: gbp(discount)}
}

// TestCommands goes through every command in every status; each scenario checks C1 and C2.
func TestCommands(t *testing.T) {
	var (
		create   = voucher.Create{Code: "V-1", Value: gbp("5"), At: at}
		withdraw = voucher.Withdraw{Code: "V-1", Reason: "expired", At: at}
		use      = redeem("A-1", "20", "5")
	)
	for name, c := range map[string]struct {
		given    []voucher.Event
		when     voucher.Command
		then     []voucher.Event
		rejected string
	}{
		"create":                      {nil, create, []voucher.Event{created()}, ""},
		"create, open":                {[]voucher.Event{created()}, create, nil, voucher.CodeExists},
		"create, withdrawn":           {[]voucher.Event{created(), withdrawn()}, create, nil, voucher.CodeExists},
		"withdraw, none":              {nil, withdraw, nil, voucher.CodeNotFound},
		"withdraw":                    {[]voucher.Event{created()}, withdraw, []voucher.Event{withdrawn()}, ""},
		"withdraw, redeemed":          {[]voucher.Event{created(), usedBy("V-1")}, withdraw, []voucher.Event{withdrawn()}, ""},
		"withdraw, withdrawn":         {[]voucher.Event{created(), withdrawn()}, withdraw, nil, ""},
		"redeem, none":                {nil, use, nil, voucher.CodeNotFound},
		"redeem":                      {[]voucher.Event{created()}, use, nil, ""},
		"redeem, withdrawn":           {[]voucher.Event{created(), withdrawn()}, use, nil, voucher.CodeWithdrawn},
		"redeem, redeemed":            {[]voucher.Event{created(), usedBy("V-1")}, use, nil, voucher.CodeRedeemed},
		"redeem, another's":           {[]voucher.Event{created(), usedBy("V-2")}, use, nil, ""},
		"redeem, freed":               {[]voucher.Event{created(), usedBy("V-1"), cancelled("V-1")}, use, nil, ""},
		"redeem, freed and withdrawn": {[]voucher.Event{created(), usedBy("V-1"), withdrawn(), cancelled("V-1")}, use, nil, voucher.CodeWithdrawn},
		"redeem, worth more":          {[]voucher.Event{created()}, redeem("A-1", "3.5", "3.5"), nil, ""},
		"redeem for too much":         {[]voucher.Event{created()}, redeem("A-1", "3.5", "5"), nil, voucher.CodeDiscountDiffers},
		"redeem for nothing":          {[]voucher.Event{created()}, redeem("A-1", "3.5", "0"), nil, voucher.CodeDiscountDiffers},
		"redeem, other currency": {
			[]voucher.Event{created()}, voucher.Redeem{Code: "V-1", OrderID: "A-1", Total: money.MustParse("20", "EUR")}, nil, voucher.CodeCurrencyDiffers,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := vouchers(t).In("order", "A-9").Given(c.given...).When(c.when)
			if c.rejected != "" {
				o.ThenRejected(c.rejected)
				return
			}
			o.Then(c.then...)
		})
	}
}

// A cancelled order gives back its own voucher only.
func TestVoucherStaysWithTheOrderThatHasIt(t *testing.T) {
	vouchers(t).Given(created()).
		In("order", "A-1").Given(usedBy("V-1"), cancelled("V-1")).
		In("order", "A-2").Given(usedBy("V-1")).
		In("order", "A-1").Given(cancelled("V-1")).
		When(redeem("A-3", "20", "5")).ThenRejected(voucher.CodeRedeemed)
}

func TestFaults(t *testing.T) {
	long := strings.Repeat("x", voucher.MaxReasonBytes+1)
	vouchers(t).
		When(voucher.Create{Code: "", Value: gbp("0")}).ThenInvalid("stream id is empty", "value 0 is not positive", "time is missing").
		When(voucher.Create{Code: "a\nb", Value: gbp("-1"), At: at}).ThenInvalid("unprintable", "value -1").
		When(voucher.Withdraw{Code: "V-1", At: at}).ThenInvalid("a reason is text of 1 to 500 bytes").
		When(voucher.Withdraw{Code: "V-1", Reason: long, At: at}).ThenInvalid("a reason is text").
		When(voucher.Create{Code: strings.Repeat("ü", 128), Value: gbp("1"), At: at}).ThenAccepted()
}

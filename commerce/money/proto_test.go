package money_test

import (
	"errors"
	"testing"

	"github.com/tributary-es/tributary/commerce/money"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

func TestProtoReadsBack(t *testing.T) {
	for _, a := range []money.Amount{
		{}, money.MustParse("0", "GBP"), money.MustParse("2.550", "GBP"), money.MustParse("-0.001", "EUR"),
	} {
		got, err := money.FromProto(a.Proto())
		if err != nil || got != a {
			t.Errorf("%s %s reads back as %s %s, %v", a, a.Currency(), got, got.Currency(), err)
		}
	}
	if m := money.MustParse("-2.550", "GBP").Proto(); m.GetCurrency() != "GBP" || m.GetAmount() != "-2.55" {
		t.Errorf("-2.550 pounds are written %v", m)
	}
}

func TestFromProtoRefuses(t *testing.T) {
	for _, c := range []struct {
		m    *commercev1.Money
		want error
	}{
		{&commercev1.Money{}, money.ErrCurrency},
		{&commercev1.Money{Currency: "GBP"}, money.ErrSyntax},
		{&commercev1.Money{Currency: "GBP", Amount: "1e3"}, money.ErrSyntax},
		{&commercev1.Money{Amount: "1"}, money.ErrCurrency},
	} {
		if a, err := money.FromProto(c.m); !errors.Is(err, c.want) || a != (money.Amount{}) {
			t.Errorf("FromProto(%v) = %v, %v; want %v", c.m, a, err, c.want)
		}
	}
}

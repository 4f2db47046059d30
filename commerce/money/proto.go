package money

import (
	"fmt"

	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Proto returns the amount as events carry it, nil for the zero value.
func (a Amount) Proto() *commercev1.Money {
	if a == (Amount{}) {
		return nil
	}
	return &commercev1.Money{Currency: a.currency, Amount: a.String()}
}

// FromProto reads what [Amount.Proto] writes; nil is the zero value.
func FromProto(m *commercev1.Money) (Amount, error) {
	if m == nil {
		return Amount{}, nil
	}
	a, err := Parse(m.GetAmount(), m.GetCurrency())
	if err != nil {
		return Amount{}, fmt.Errorf("read amount: %w", err)
	}
	return a, nil
}

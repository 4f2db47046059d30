package money

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
)

// Parse reads a decimal number such as "2.55", "-0.001" or "7" in a currency of
// three capital letters. There is no plus sign, no exponent, no separator of
// thousands, and a digit stands on both sides of a point. Zeros that change
// nothing are accepted and forgotten; "-0" is 0. The currency string is kept as
// it is given, so callers that read many amounts should pass the same one.
func Parse(number, currency string) (Amount, error) {
	if err := checkCurrency(currency); err != nil {
		return Amount{}, err
	}
	digits, negative := strings.CutPrefix(number, "-")
	whole, fraction, pointed := strings.Cut(digits, ".")
	if !allDigits(whole) || pointed && !allDigits(fraction) {
		return Amount{}, fmt.Errorf("%q: %w", shortened(number), ErrSyntax)
	}
	whole = strings.TrimLeft(whole, "0")
	fraction = strings.TrimRight(fraction, "0")
	if len(whole) > MaxWhole {
		return Amount{}, fmt.Errorf("%q: %w", shortened(number), ErrOverflow)
	}
	if len(fraction) > MaxScale {
		return Amount{}, fmt.Errorf("%q: %w", shortened(number), ErrScale)
	}
	small := digitsValue(fraction)
	for range MaxScale - len(fraction) {
		small *= 10
	}
	hi, lo := bits.Mul64(digitsValue(whole), unitsPerWhole)
	lo, carry := bits.Add64(lo, small, 0)
	return fromSmallest(negative, hi+carry, lo, currency)
}

// String returns the number alone, without its currency: no exponent, no
// trailing zeros, never "-0". [Parse] reads it back.
func (a Amount) String() string { return a.number.String() }

// AppendText appends what MarshalText returns.
func (a Amount) AppendText(b []byte) ([]byte, error) {
	b, err := a.number.AppendText(b)
	if err != nil || a.currency == "" {
		return b, err
	}
	return append(append(b, ' '), a.currency...), nil
}

// MarshalText returns number and currency as in "2.55 GBP", and "0" for the
// zero value.
func (a Amount) MarshalText() ([]byte, error) { return a.AppendText(nil) }

// UnmarshalText reads what MarshalText writes.
func (a *Amount) UnmarshalText(text []byte) error {
	number, currency, _ := strings.Cut(string(text), " ")
	return a.set(number, currency)
}

// MarshalJSON returns {"currency":"GBP","amount":"2.55"}.
func (a Amount) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 64), `{"currency":"`...)
	b = append(b, a.currency...)
	b = append(b, `","amount":"`...)
	b, err := a.number.AppendText(b)
	return append(b, `"}`...), err
}

// UnmarshalJSON reads what MarshalJSON writes. The amount is a string; a JSON
// number is refused, because on its way it may have been a float.
func (a *Amount) UnmarshalJSON(data []byte) error {
	var wire struct {
		Currency string `json:"currency"`
		Amount   string `json:"amount"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return fmt.Errorf("read amount: %w", err)
	}
	return a.set(wire.Amount, wire.Currency)
}

// set parses the two parts of the wire form, in which the zero value of Amount
// is the one number without a currency.
func (a *Amount) set(number, currency string) error {
	if currency == "" && number == "0" {
		*a = Amount{}
		return nil
	}
	parsed, err := Parse(number, currency)
	if err != nil {
		return fmt.Errorf("read amount: %w", err)
	}
	*a = parsed
	return nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// digitsValue is the value of at most 19 digits.
func digitsValue(digits string) uint64 {
	var v uint64
	for i := range len(digits) {
		v = v*10 + uint64(digits[i]-'0')
	}
	return v
}

// shortened keeps an error readable when the text at fault is very long.
func shortened(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

package money

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/quagmt/udecimal"
)

const (
	// MaxScale is the largest number of decimals of an amount.
	MaxScale = 9
	// MaxWhole is the largest number of digits before the decimal point.
	MaxWhole = 18
)

// unitsPerWhole is 10^MaxScale: how many of the smallest units make one.
const unitsPerWhole = 1_000_000_000

// limitHi and limitLo are 10^(MaxWhole+MaxScale) as a 128-bit number: the first
// count of smallest units that is out of bounds.
const (
	limitHi = 54_210_108
	limitLo = 11_515_845_246_265_065_472
)

// Errors of this package. They come wrapped with the values at fault; compare
// with [errors.Is].
var (
	// ErrCurrency: two currencies met, or a currency is not three letters A–Z.
	ErrCurrency = errors.New("currency")
	// ErrOverflow: the result has more than MaxWhole digits before the point.
	ErrOverflow = errors.New("amount too large")
	// ErrScale: the text has more than MaxScale decimals.
	ErrScale = errors.New("too many decimals")
	// ErrSyntax: the text is not a plain decimal number.
	ErrSyntax = errors.New("not a decimal number")
)

// Amount is an exact amount of money, a value to be copied freely.
//
// The zero value is nothing in no currency. It is neutral: adding it to pounds
// gives those pounds, so a sum can begin with it.
//
// Two amounts may be compared with ==: they are the same exactly when number
// and currency are, however they were written ("2.50" is "2.5") or computed.
type Amount struct {
	// INVARIANT: number is udecimal's zero value, or has precision MaxScale and a
	// coefficient under limit held in 128 bits. This makes == meaningful.
	number   udecimal.Decimal
	currency string
}

// FromUnits returns units ÷ 10^scale of a currency: FromUnits(255, 2, "GBP") is
// 2.55 pounds. Scale is 0 to MaxScale.
func FromUnits(units int64, scale uint8, currency string) (Amount, error) {
	if err := checkCurrency(currency); err != nil {
		return Amount{}, err
	}
	if scale > MaxScale {
		return Amount{}, fmt.Errorf("units with %d decimals: %w", scale, ErrScale)
	}
	factor := uint64(1)
	for range MaxScale - scale {
		factor *= 10
	}
	hi, lo := bits.Mul64(magnitude(units), factor)
	return fromSmallest(units < 0, hi, lo, currency)
}

// Zero returns nothing in the given currency.
func Zero(currency string) (Amount, error) { return FromUnits(0, 0, currency) }

// MustParse is [Parse] for amounts written in the program. It panics on error.
func MustParse(number, currency string) Amount {
	a, err := Parse(number, currency)
	if err != nil {
		panic(err)
	}
	return a
}

// Currency returns the three letters of the currency, "" for the zero value.
func (a Amount) Currency() string { return a.currency }

// IsZero reports whether the amount is nothing, in whatever currency.
func (a Amount) IsZero() bool { return a.number.IsZero() }

// Sign returns -1, 0 or +1.
func (a Amount) Sign() int { return a.number.Sign() }

// Add returns a + b.
func (a Amount) Add(b Amount) (Amount, error) {
	currency, err := a.common(b)
	if err != nil {
		return Amount{}, fmt.Errorf("add: %w", err)
	}
	sum := a.number.Add(b.number)
	if !within(sum) {
		return Amount{}, fmt.Errorf("add %s and %s: %w", a, b, ErrOverflow)
	}
	return Amount{sum, currency}, nil
}

// Sub returns a − b.
func (a Amount) Sub(b Amount) (Amount, error) {
	currency, err := a.common(b)
	if err != nil {
		return Amount{}, fmt.Errorf("subtract: %w", err)
	}
	difference := a.number.Sub(b.number)
	if !within(difference) {
		return Amount{}, fmt.Errorf("subtract %s from %s: %w", b, a, ErrOverflow)
	}
	return Amount{difference, currency}, nil
}

// Neg returns −a. It cannot fail: the bounds are symmetric.
func (a Amount) Neg() Amount { return Amount{a.number.Neg(), a.currency} }

// Mul returns a × n, as unit price times quantity.
func (a Amount) Mul(n int64) (Amount, error) {
	product := a.number.Mul64(magnitude(n))
	if n < 0 {
		product = product.Neg()
	}
	if !within(product) {
		return Amount{}, fmt.Errorf("multiply %s by %d: %w", a, n, ErrOverflow)
	}
	return Amount{product, a.currency}, nil
}

// Cmp returns -1, 0 or +1 as a is less than, equal to or greater than b. The
// zero value compares with every currency.
func (a Amount) Cmp(b Amount) (int, error) {
	if _, err := a.common(b); err != nil {
		return 0, fmt.Errorf("compare: %w", err)
	}
	return a.number.Cmp(b.number), nil
}

// Equal reports whether number and currency are the same; it is a == b.
func (a Amount) Equal(b Amount) bool { return a == b }

// common returns the currency two amounts share.
func (a Amount) common(b Amount) (string, error) {
	switch {
	case a.currency == b.currency, b.currency == "":
		return a.currency, nil
	case a.currency == "":
		return b.currency, nil
	}
	return "", fmt.Errorf("%w: %s and %s do not mix", ErrCurrency, a.currency, b.currency)
}

// within reports whether a decimal keeps the bounds of an Amount.
func within(d udecimal.Decimal) bool {
	_, hi, lo, _, ok := d.ToHiLo()
	return ok && (hi < limitHi || hi == limitHi && lo < limitLo)
}

// fromSmallest builds the amount of a 128-bit count of smallest units.
func fromSmallest(negative bool, hi, lo uint64, currency string) (Amount, error) {
	if hi > limitHi || hi == limitHi && lo >= limitLo {
		return Amount{}, ErrOverflow
	}
	number, err := udecimal.NewFromHiLo(negative, hi, lo, MaxScale)
	if err != nil {
		return Amount{}, fmt.Errorf("amount: %w", err)
	}
	return Amount{number, currency}, nil
}

// magnitude is |n|, also for the one number whose negation does not fit int64.
func magnitude(n int64) uint64 {
	if n == math.MinInt64 {
		return 1 << 63
	}
	return uint64(max(n, -n))
}

func checkCurrency(currency string) error {
	ok := len(currency) == 3
	for i := 0; ok && i < 3; i++ {
		ok = currency[i] >= 'A' && currency[i] <= 'Z'
	}
	if !ok {
		return fmt.Errorf("%w: %q is not three letters A–Z", ErrCurrency, currency)
	}
	return nil
}

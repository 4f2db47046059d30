// Package money holds exact amounts of money.
//
// An [Amount] is a decimal number and a currency. It is exact: no operation
// rounds. It is bounded: an amount has at most [MaxScale] decimals and at most
// [MaxWhole] digits before the point, so every amount fits a column of 38
// decimal digits with a scale of 9, with room for a sum of 10^11 of them. What
// would leave these bounds is [ErrOverflow] or [ErrScale], never a wrong
// number. Currencies do not mix: that is [ErrCurrency].
//
// On the wire an amount is two strings, the currency and the number as
// [Amount.String] writes it; [Parse] reads them back. JSON has the same two as
// {"currency":"GBP","amount":"2.55"}.
//
// The package decides nothing about rates, rounding or how many decimals a
// currency has: real price lists have a tenth of a penny.
package money

package retail

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tributary-es/tributary/commerce/money"
)

// Currency is the currency of every amount in the files.
const Currency = "GBP"

// Bounds on what is believed. They are far beyond any real line and keep every
// sum within int64 and [money.Amount].
const (
	maxQuantity = 1_000_000_000
	maxName     = 100 // bytes of a stock code, a country
	firstYear   = 1970
	lastYear    = 2105 // what 32-bit seconds can hold
)

const dateLayout = "2006-01-02 15:04:05"

// The columns of a file, in the order of the fields of a row.
const (
	columnInvoice = iota
	columnStock
	columnDescription
	columnQuantity
	columnDate
	columnPrice
	columnCustomer
	columnCountry
	columnCount
)

var columnNames = [columnCount]string{
	"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country",
}

// row is one record whose values are checked. Its strings share memory with the
// record: whoever keeps them, copies them.
type row struct {
	invoice, stock, description, customer, country string
	quantity                                       int64
	at                                             time.Time
	price, amount                                  money.Amount
}

// fault is what is wrong with one field.
type fault struct {
	column        int
	problem, hint string
}

// parseRow checks the fields of a record, given in the order of columnNames. It
// returns every fault, one a field at most.
func parseRow(fields *[columnCount]string) (row, []fault) {
	var faults []fault
	for column, value := range fields {
		if problem, hint := badText(column, value); problem != "" {
			faults = append(faults, fault{column, problem, hint})
		}
	}
	if faults != nil {
		return row{}, faults
	}
	note := func(column int, hint, format string, args ...any) {
		faults = append(faults, fault{column, fmt.Sprintf(format, args...), hint})
	}

	r := row{
		invoice:     fields[columnInvoice],
		stock:       fields[columnStock],
		description: fields[columnDescription],
		country:     fields[columnCountry],
	}
	if kindOf(r.invoice) == kindUnknown {
		note(columnInvoice, "digits are an order, C and digits a return, A and digits a payment adjustment",
			"%s is not an invoice number", quoted(r.invoice))
	}
	if r.stock == "" || len(r.stock) > maxName {
		note(columnStock, fmt.Sprintf("a code has 1 to %d bytes", maxName), "%s is not a stock code", quoted(r.stock))
	}
	if len(r.country) > maxName {
		note(columnCountry, fmt.Sprintf("at most %d bytes", maxName), "%s is too long", quoted(r.country))
	}

	var err error
	if r.quantity, err = strconv.ParseInt(fields[columnQuantity], 10, 64); err != nil {
		note(columnQuantity, "write it like 6 or -6", "%s is not a whole number", quoted(fields[columnQuantity]))
	} else if r.quantity > maxQuantity || r.quantity < -maxQuantity {
		note(columnQuantity, fmt.Sprintf("at most %d", maxQuantity), "%d is too large", r.quantity)
	}
	if r.at, err = parseDate(fields[columnDate]); err != nil {
		note(columnDate, "write it like 2010-12-01 08:26:00", "%s is not a date and time", quoted(fields[columnDate]))
	}
	if r.price, err = money.Parse(fields[columnPrice], Currency); err != nil {
		note(columnPrice, fmt.Sprintf("write it like 2.55, with at most %d decimals", money.MaxScale),
			"%s is not a price", quoted(fields[columnPrice]))
	}
	if r.customer = strings.TrimSuffix(fields[columnCustomer], ".0"); r.customer != "" && !digits(r.customer) {
		note(columnCustomer, "write it like 17850 or 17850.0, or leave it empty for a guest",
			"%s is not a customer", quoted(fields[columnCustomer]))
	}
	if faults == nil {
		if r.amount, err = r.price.Mul(r.quantity); err != nil {
			note(columnPrice, "", "%s times the quantity %d is too large", r.price, r.quantity)
		}
	}
	return r, faults
}

// parseDate reads a local time. The length is checked because time.Parse also
// takes fractions of a second and hours of one digit.
func parseDate(s string) (time.Time, error) {
	at, err := time.Parse(dateLayout, s)
	if err == nil && (len(s) != len(dateLayout) || at.Year() < firstYear || at.Year() > lastYear) {
		err = fmt.Errorf("date outside %d to %d or of another form", firstYear, lastYear)
	}
	return at, err
}

// badText says what is wrong with a value as text: not UTF-8, or with a control
// character. A description may have tabs and line breaks.
func badText(column int, value string) (problem, hint string) {
	suspicious := false
	for i := range len(value) {
		if value[i] < ' ' || value[i] >= 0x7f {
			suspicious = true
			break
		}
	}
	if !suspicious {
		return "", ""
	}
	if !utf8.ValidString(value) {
		return "bad UTF-8 in " + quoted(value), "save the file as UTF-8"
	}
	for _, c := range value {
		allowed := column == columnDescription && (c == '\t' || c == '\n' || c == '\r')
		if (c < ' ' || c == 0x7f) && !allowed {
			return fmt.Sprintf("control character %U in %s", c, quoted(value)), "remove it"
		}
	}
	return "", ""
}

// kind is what an invoice is, by the form of its number.
type kind uint8

const (
	kindUnknown kind = iota
	kindOrder
	kindReturn
	kindPayment
)

// maxInvoiceDigits bounds the digits of an invoice or customer number.
const maxInvoiceDigits = 18

func kindOf(invoice string) kind {
	k := kindOrder
	switch {
	case strings.HasPrefix(invoice, "C"):
		k, invoice = kindReturn, invoice[1:]
	case strings.HasPrefix(invoice, "A"):
		k, invoice = kindPayment, invoice[1:]
	}
	if !digits(invoice) {
		return kindUnknown
	}
	return k
}

// digits reports whether s is a number of 1 to maxInvoiceDigits digits.
func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= maxInvoiceDigits
}

package retail

import (
	"strconv"
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// Item is one piece of work of a [Plan]: an OpeningStock, an Order, a
// StockAdjustment, a Return or a PaymentAdjustment, and nothing else. An item
// is a value that belongs to its receiver and may go to any goroutine.
type Item interface {
	// Key names the item for ever: the same content gives the same key in every
	// run, alone or read together with other files, and no two items of a plan
	// share one. It is fit to be an idempotency key, or the root of several.
	Key() string
	// LineCount is the number of input lines the item accounts for. Over a plan
	// it adds up to Set.Len.
	LineCount() int

	item()
}

// OpeningStock is stock to be received before all other work: the units of one
// code that leave by the lines of one file, by orders and by adjustments
// downwards. Units is positive; a code from which nothing leaves has no item.
type OpeningStock struct {
	File      string // SHA-256 of the file's content, in hex
	StockCode string
	Units     int64
}

// Order is the sold and paid lines of an ordinary invoice: every quantity and
// every price is positive. A code may occur on several lines. Lines of one
// invoice that are in two files are one order.
type Order struct {
	Invoice  string
	Customer string // "" for a guest
	Country  string
	At       time.Time // of the first line; a later line may be a minute later
	Lines    []Line    // in order of Ordinal, at least one
	Total    money.Amount
}

// StockAdjustment is one line that moves stock without being sold or returned:
// a write-off, a gift, something found. The reason is Line.Description, which
// may be empty.
type StockAdjustment struct {
	Line Line
	// Change is the units that come to the stock, negative if they leave. It is
	// Line.Quantity on an ordinary invoice, −Line.Quantity on a C invoice. It
	// may be 0.
	Change int64
}

// Return is the lines of a C invoice that bring goods back. Quantities are
// negative, as written; −Quantity units come back.
type Return struct {
	Invoice  string
	Customer string // "" for a guest
	Country  string
	At       time.Time // of the first line
	Lines    []Line    // in order of Ordinal, at least one
	Refund   money.Amount
}

// PaymentAdjustment is one line of an A invoice: money, no goods. Line.Amount
// is what the shop gains, negative if it loses; the reason is
// Line.Description.
type PaymentAdjustment struct {
	Line Line
}

// openingKeyDigits is how much of a file's hash its keys carry: 128 bits.
const openingKeyDigits = 32

// Key names the file by its content and then the code.
func (o OpeningStock) Key() string {
	return "retail/opening/" + o.File[:min(len(o.File), openingKeyDigits)] + "/" + o.StockCode
}

// Key is retail/<invoice>/order.
func (o Order) Key() string { return "retail/" + o.Invoice + "/order" }

// Key is retail/<invoice>/stock/<ordinal of the line>.
func (a StockAdjustment) Key() string {
	return "retail/" + a.Line.Invoice + "/stock/" + strconv.Itoa(a.Line.Ordinal)
}

// Key is retail/<invoice>/return.
func (r Return) Key() string { return "retail/" + r.Invoice + "/return" }

// Key is retail/<invoice>/payment/<ordinal of the line>.
func (a PaymentAdjustment) Key() string {
	return "retail/" + a.Line.Invoice + "/payment/" + strconv.Itoa(a.Line.Ordinal)
}

// LineCount is 0: opening stock is a sum over lines that have items of their own.
func (OpeningStock) LineCount() int { return 0 }

// LineCount is the number of the order's lines.
func (o Order) LineCount() int { return len(o.Lines) }

// LineCount is 1.
func (StockAdjustment) LineCount() int { return 1 }

// LineCount is the number of the return's lines.
func (r Return) LineCount() int { return len(r.Lines) }

// LineCount is 1.
func (PaymentAdjustment) LineCount() int { return 1 }

func (OpeningStock) item()      {}
func (Order) item()             {}
func (StockAdjustment) item()   {}
func (Return) item()            {}
func (PaymentAdjustment) item() {}

package retail

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/commerce/money"
)

// Plan is the work that a [Set] stands for. It never changes, may be read by
// many goroutines, and every pass over it gives the same items.
type Plan struct {
	set      *Set
	openings []opening
	steps    []step
	byLine   []uint32 // places of records, invoice by invoice, in order of Ordinal
	begin    []uint32 // where in byLine the lines of each invoice begin; one more at the end
	counts   Counts
}

// Counts is how much work a plan holds.
type Counts struct {
	Openings           int
	Orders             int
	OrderLines         int
	StockAdjustments   int
	Returns            int
	ReturnLines        int
	PaymentAdjustments int
}

// Items is the number of all items.
func (c Counts) Items() int { return c.Openings + c.Work() }

// Work is the number of items after the opening stock.
func (c Counts) Work() int {
	return c.Orders + c.StockAdjustments + c.Returns + c.PaymentAdjustments
}

// role is the kind of item in which a line ends.
type role uint8

const (
	roleOrder role = iota
	roleReturn
	roleStock
	rolePayment
)

// opening is an OpeningStock in compact form.
type opening struct {
	file, stock uint32
	units       int64
}

// step is any other item in compact form: its kind and its first line, whose
// time is the item's.
type step struct {
	at     int64
	record uint32
	role   role
}

// Plan works out the plan of the set.
func (s *Set) Plan() *Plan {
	p := &Plan{set: s}
	p.groupLines()
	leaving := make([]map[uint32]int64, len(s.files)) // by file, by stock code
	for i := range leaving {
		leaving[i] = make(map[uint32]int64)
	}
	begun := make([][2]bool, len(s.invoices)) // has its order, has its return

	for i := range s.records {
		r := &s.records[i]
		role := s.role(r)
		if units := leavingUnits(role, s.invoices[r.invoice].kind, r.quantity); units > 0 {
			leaving[r.file][r.stock] += units
		}
		switch role {
		case roleOrder:
			p.counts.OrderLines++
		case roleReturn:
			p.counts.ReturnLines++
		case roleStock:
			p.counts.StockAdjustments++
		case rolePayment:
			p.counts.PaymentAdjustments++
		}
		if role == roleOrder || role == roleReturn {
			if begun[r.invoice][role] {
				continue
			}
			begun[r.invoice][role] = true
			if role == roleOrder {
				p.counts.Orders++
			} else {
				p.counts.Returns++
			}
		}
		p.steps = append(p.steps, step{at: r.at, record: uint32(i), role: role})
	}
	slices.SortStableFunc(p.steps, func(x, y step) int { return cmp.Compare(x.at, y.at) })
	p.listOpenings(leaving)
	return p
}

// role decides in which kind of item a line ends; see the table in the
// documentation of the package.
func (s *Set) role(r *record) role {
	price := s.prices[r.price].Sign()
	switch s.invoices[r.invoice].kind {
	case kindPayment:
		return rolePayment
	case kindReturn:
		if r.quantity < 0 && price >= 0 {
			return roleReturn
		}
	default:
		if r.quantity > 0 && price > 0 {
			return roleOrder
		}
	}
	return roleStock
}

// leavingUnits is how many units a line takes from the stock, negative or 0 if
// it takes none.
func leavingUnits(role role, kind kind, quantity int64) int64 {
	switch role {
	case roleOrder:
		return quantity
	case roleStock:
		return -change(kind, quantity)
	default:
		return 0
	}
}

// change is what an adjusting line adds to the stock. On an ordinary invoice
// the shop writes the change itself; on a return it writes what the customer
// got, so that goods coming back are negative.
func change(kind kind, quantity int64) int64 {
	if kind == kindReturn {
		return -quantity
	}
	return quantity
}

// groupLines sorts the places of the records by invoice, keeping their order.
func (p *Plan) groupLines() {
	p.begin = make([]uint32, len(p.set.invoices)+1)
	for i, in := range p.set.invoices {
		p.begin[i+1] = p.begin[i] + in.lines
	}
	p.byLine = make([]uint32, len(p.set.records))
	for i := range p.set.records {
		r := &p.set.records[i]
		p.byLine[p.begin[r.invoice]+r.ordinal-1] = uint32(i)
	}
}

// listOpenings lists the opening stock by file and by code.
func (p *Plan) listOpenings(leaving []map[uint32]int64) {
	for file, units := range leaving {
		begin := len(p.openings)
		for stock, n := range units {
			p.openings = append(p.openings, opening{uint32(file), stock, n})
		}
		slices.SortFunc(p.openings[begin:], func(x, y opening) int {
			return cmp.Compare(p.set.stocks[x.stock], p.set.stocks[y.stock])
		})
	}
	p.counts.Openings = len(p.openings)
}

// Counts says how much work there is.
func (p *Plan) Counts() Counts { return p.counts }

// Items goes through all items: the opening stock, then the work. Opening stock
// must be in place before the work begins; a caller that works in parallel
// waits between [Plan.Opening] and [Plan.Work].
func (p *Plan) Items() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for item := range p.Opening() {
			if !yield(item) {
				return
			}
		}
		p.Work()(yield)
	}
}

// Opening goes through the opening stock, file by file and by code.
func (p *Plan) Opening() iter.Seq[OpeningStock] {
	return func(yield func(OpeningStock) bool) {
		for _, o := range p.openings {
			if !yield(OpeningStock{p.set.files[o.file].SHA256, p.set.stocks[o.stock], o.units}) {
				return
			}
		}
	}
}

// Work goes through everything but the opening stock, by time of the first line
// and, at the same time, in order of appearance.
func (p *Plan) Work() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for _, s := range p.steps {
			if !yield(p.spell(s)) {
				return
			}
		}
	}
}

// spell makes the item of a step.
func (p *Plan) spell(s step) Item {
	r := &p.set.records[s.record]
	switch s.role {
	case roleOrder:
		lines, total := p.lines(r.invoice, roleOrder)
		first := &lines[0]
		return Order{first.Invoice, first.Customer, first.Country, first.At, lines, total}
	case roleReturn:
		lines, total := p.lines(r.invoice, roleReturn)
		first := &lines[0]
		return Return{first.Invoice, first.Customer, first.Country, first.At, lines, total.Neg()}
	case rolePayment:
		return PaymentAdjustment{p.set.line(int(s.record))}
	default:
		return StockAdjustment{p.set.line(int(s.record)), change(p.set.invoices[r.invoice].kind, r.quantity)}
	}
}

// lines spells out the lines of an invoice that have a role, with their sum.
func (p *Plan) lines(invoice uint32, want role) ([]Line, money.Amount) {
	places := p.byLine[p.begin[invoice]:p.begin[invoice+1]]
	lines := make([]Line, 0, len(places))
	var total money.Amount
	for _, place := range places {
		if p.set.role(&p.set.records[place]) != want {
			continue
		}
		line := p.set.line(int(place))
		sum, err := total.Add(line.Amount)
		if err != nil {
			panic(fmt.Sprintf("INVARIANT: all amounts together were checked when they were read: %v", err))
		}
		total = sum
		lines = append(lines, line)
	}
	return lines, total
}

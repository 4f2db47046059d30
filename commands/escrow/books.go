package escrow

import (
	"cmp"
	"fmt"
	"slices"
)

// Books say for each site how many units it has rights to, and what became of them. The zero value has none. Copies share
// memory; who changes one does not use the others afterwards. Sums are in units and do not overflow as long as all that was
// ever received fits an int64.
type Books struct{ rows []Row }

// Row is what the books say of one site.
type Row struct {
	Site string
	// Received are the units that came in at the site, less those that were corrected away.
	Received int64
	// Held are those that are promised, Used those that are gone.
	Held, Used int64
	// Sent are the rights that the site has given away, by whom they went to, sorted.
	Sent []Sent
}

// Sent are rights that went to a site.
type Sent struct {
	To    string
	Units int64
}

// Of returns books with the given rows, as Rows returned them.
func Of(rows []Row) Books { return Books{rows: rows} }

// Rows returns what the books say, sorted by site. It is not to be changed.
func (b Books) Rows() []Row { return b.rows }

// Row returns what the books say of a site; a site that they know nothing of has nothing.
func (b Books) Row(site string) Row {
	if i, ok := b.find(site); ok {
		return b.rows[i]
	}
	return Row{Site: site}
}

// Receive enters units that came in at a site, or went there for good when they are negative.
func (b *Books) Receive(site string, units int64) { b.row(site).Received += units }

// Hold promises units of a site. REQUIRES, for what the package promises: no more than Available of the site.
func (b *Books) Hold(site string, units int64) { b.row(site).Held += units }

// Take has units go that the site has held.
func (b *Books) Take(site string, units int64) {
	r := b.row(site)
	r.Held -= units
	r.Used += units
}

// Release gives up what the site has held.
func (b *Books) Release(site string, units int64) { b.row(site).Held -= units }

// Move gives rights of a site to another. REQUIRES, for what the package promises: no more than Available of the giver, and it
// is the giver that decides.
func (b *Books) Move(from, to string, units int64) {
	b.row(to)
	r := b.row(from)
	i, ok := slices.BinarySearchFunc(r.Sent, to, func(s Sent, to string) int { return cmp.Compare(s.To, to) })
	if !ok {
		r.Sent = slices.Insert(slices.Clone(r.Sent), i, Sent{To: to})
	}
	r.Sent[i].Units += units
}

// Rights returns the units that are a site's: received there or moved to it, and not moved on or used.
func (b Books) Rights(site string) int64 {
	rights := int64(0)
	for i := range b.rows {
		r := &b.rows[i]
		if r.Site == site {
			rights += r.Received - r.Used
		}
		for _, s := range r.Sent {
			if r.Site == site {
				rights -= s.Units
			}
			if s.To == site {
				rights += s.Units
			}
		}
	}
	return rights
}

// Available returns the units that a site may hold, or move.
func (b Books) Available(site string) int64 { return b.Rights(site) - b.Row(site).Held }

// Total returns the sums over all sites.
func (b Books) Total() (received, held, used int64) {
	for i := range b.rows {
		received += b.rows[i].Received
		held += b.rows[i].Held
		used += b.rows[i].Used
	}
	return received, held, used
}

// Stranded returns the units that are available at some site while another has none: its customers are refused what is there.
func (b Books) Stranded() int64 {
	sum, short := int64(0), false
	for i := range b.rows {
		n := b.Available(b.rows[i].Site)
		sum += n
		short = short || n == 0
	}
	if !short {
		return 0
	}
	return sum
}

// Check returns what the books break of E1 and E2, nil when they keep both.
func (b Books) Check() error {
	if received, held, used := b.Total(); held+used > received {
		return fmt.Errorf("%d units are used and %d held, %d were received", used, held, received)
	}
	for i := range b.rows {
		r := &b.rows[i]
		if n := b.Available(r.Site); n < 0 || r.Held < 0 || r.Used < 0 {
			return fmt.Errorf("site %q has %d units available, %d held, %d used", r.Site, n, r.Held, r.Used)
		}
	}
	return nil
}

func (b Books) find(site string) (int, bool) {
	return slices.BinarySearchFunc(b.rows, site, func(r Row, site string) int { return cmp.Compare(r.Site, site) })
}

// row returns a site's row, to be changed.
func (b *Books) row(site string) *Row {
	i, ok := b.find(site)
	if !ok {
		b.rows = slices.Insert(b.rows, i, Row{Site: site})
	}
	return &b.rows[i]
}

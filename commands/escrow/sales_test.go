package escrow_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands/escrow"
	"github.com/tributary-es/tributary/internal/reliability"
)

var salesSeed = flag.Uint64("sales.seed", 0, "seed of TestSales; 0 draws one")

// TestSales is T17 of docs/reliability.md: things are sold out at three sites at once, with demand that wanders from site to
// site, links that are slow and cut off, and rights that move by plan. It shows C14 and C15.
func TestSales(t *testing.T) {
	sales, seed := 200_000, *salesSeed
	if *reliability.Long {
		sales = 10_000_000
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay with -sales.seed %d", seed)
	total := totals{}
	for thing := uint64(0); total.sold < sales; thing++ {
		m := newMarket(rand.New(rand.NewPCG(seed, thing)))
		m.run()
		total.add(t, m)
		if t.Failed() {
			t.Fatalf("thing %d of -sales.seed %d", thing, seed)
		}
	}
	stranded := 100 * float64(total.stranded) / float64(total.stock)
	if stranded >= 5 {
		t.Errorf("%.2f %% of the stock were stranded, want less than 5 %%", stranded)
	}
	reliability.Result{
		Test: "T17", What: "things sold out at three sites, with links slow and cut off", Seed: seed, Seeds: total.things,
		Cycles: total.sold, Faults: total.cuts, Phantom: total.oversold,
		Extra: map[string]any{
			"oversold": total.oversold, "stranded %": float64(int(100*stranded)) / 100, "moves": total.moves,
			"refused": total.refused, "stock": total.stock,
		},
	}.Print(t)
}

// totals are those over all things.
type totals struct{ things, stock, sold, refused, oversold, stranded, moves, cuts int }

func (s *totals) add(t *testing.T, m *market) {
	s.things++
	s.moves += m.moves
	s.cuts += m.cuts
	s.refused += m.refused
	var all escrow.Books
	for _, log := range m.logs {
		for _, e := range log {
			e.apply(&all)
		}
	}
	received, held, used := all.Total()
	s.stock += int(received)
	s.sold += int(used)
	if over := held + used - received; over > 0 {
		s.oversold += int(over)
		t.Errorf("%d units were sold of %d", used+held, received)
	}
	if m.broken != nil {
		t.Errorf("the books of a site: %v", m.broken)
	}
	s.stranded += int(received - used - held)
}

// market is one thing on sale, until so many were asked for that all of it could be gone.
type market struct {
	*world
	random *rand.Rand
	now    time.Time
	links  [3][3]link
	demand [3][3]escrow.Demand // as each site has seen that of each
	moved  [3]time.Time
	want   [3]float64 // the part of the customers who come to each site
	holds  []hold

	moves, cuts, refused int
	broken               error
}

// link carries the events of one site to another.
type link struct {
	delay   time.Duration
	cut     time.Time // until when nothing comes through
	decided []sent
}

// sent is when an event was decided, and how many units a customer got by it.
type sent struct {
	at   time.Time
	sold int64
}

// hold is a promise that is settled at a time: some are paid for, some are given up.
type hold struct {
	site  int
	units int64
	until time.Time
	paid  bool
}

func newMarket(random *rand.Rand) *market {
	m := &market{world: newWorld("bj", "sh", "sz"), random: random, now: time.Unix(1_000_000, 0)}
	for i := range m.links {
		for j := range m.links[i] {
			m.links[i][j].delay = time.Duration(5+random.IntN(200)) * time.Millisecond
		}
	}
	m.drift()
	return m
}

// drift draws anew where customers come.
func (m *market) drift() {
	sum := 0.0
	for i := range m.want {
		m.want[i] = m.random.ExpFloat64()
		sum += m.want[i]
	}
	for i := range m.want {
		m.want[i] /= sum
	}
}

// at has a site decide something now, by which a customer gets so many units.
func (m *market) at(i int, sold int64, apply func(*escrow.Books)) {
	m.decide(i, apply)
	for j := range m.links[i] {
		m.links[i][j].decided = append(m.links[i][j].decided, sent{m.now, sold})
	}
	m.check()
}

func (m *market) check() {
	for i := range m.books {
		if err := m.books[i].Check(); err != nil && m.broken == nil {
			m.broken = err
		}
	}
}

func (m *market) run() {
	stock := int64(500 + m.random.IntN(1500))
	perSecond := 5 + m.random.Float64()*30
	for left := stock; left > 0; {
		units := min(left, 1+m.random.Int64N(stock))
		i := m.random.IntN(3)
		site := m.names[i]
		m.at(i, 0, func(b *escrow.Books) { b.Receive(site, units) })
		left -= units
	}
	for asked := int64(0); asked < stock*11/10; {
		m.now = m.now.Add(time.Duration(m.random.ExpFloat64() / perSecond * float64(time.Second)))
		m.deliver()
		m.settle()
		switch m.random.IntN(400) {
		case 0:
			m.drift()
		case 1:
			m.cutOff()
		}
		for i := range m.names {
			m.plan(i)
		}
		asked += m.customer()
	}
	m.now = m.now.Add(time.Hour)
	m.settle()
	m.deliver()
}

// cutOff takes a site off the others for a while.
func (m *market) cutOff() {
	m.cuts++
	i := m.random.IntN(3)
	until := m.now.Add(time.Duration(m.random.ExpFloat64() * 5 * float64(time.Second)))
	for j := range m.links {
		m.links[i][j].cut, m.links[j][i].cut = until, until
	}
}

// customer asks for some units, and returns how many of them could be sold or were refused.
func (m *market) customer() int64 {
	i, x := 0, m.random.Float64()
	for ; i < 2 && x >= m.want[i]; i++ {
		x -= m.want[i]
	}
	units := 1 + m.random.Int64N(3)
	site := m.names[i]
	m.demand[i][i].Observe(units, m.now)
	if units > m.books[i].Available(site) {
		m.refused++
		return units
	}
	m.at(i, units, func(b *escrow.Books) { b.Hold(site, units) })
	paid := m.random.IntN(20) > 0
	m.holds = append(m.holds, hold{i, units, m.now.Add(time.Duration(m.random.IntN(3000)) * time.Millisecond), paid})
	if !paid {
		return 0
	}
	return units
}

// settle ends the holds whose time has come, each at the site that has it.
func (m *market) settle() {
	open := m.holds[:0]
	for _, h := range m.holds {
		site := m.names[h.site]
		switch {
		case h.until.After(m.now):
			open = append(open, h)
		case h.paid:
			m.at(h.site, 0, func(b *escrow.Books) { b.Take(site, h.units) })
		default:
			m.at(h.site, 0, func(b *escrow.Books) { b.Release(site, h.units) })
		}
	}
	m.holds = open
}

// deliver has every site take in what has arrived.
func (m *market) deliver() {
	for again := true; again; {
		again = false
		for from := range m.links {
			for to := range m.links[from] {
				l := &m.links[from][to]
				next := m.heard[to][from]
				if from == to || next == len(l.decided) || l.cut.After(m.now) || l.decided[next].at.Add(l.delay).After(m.now) {
					continue
				}
				if m.hear(to, from) {
					// Of the demand at other sites one knows what was sold, and nothing of those who were refused.
					m.demand[to][from].Observe(l.decided[next].sold, l.decided[next].at)
					again = true
				}
			}
		}
	}
	m.check()
}

// plan has a site give rights to another, where that is due.
func (m *market) plan(i int) {
	demand := map[string]float64{}
	for j, name := range m.names {
		demand[name] = m.demand[i][j].PerSecond(m.now)
	}
	move, ok := escrow.Planner{}.Plan(m.names[i], m.books[i], demand, m.moved[i], m.now)
	if !ok {
		return
	}
	m.moved[i] = m.now
	m.moves++
	m.at(i, 0, func(b *escrow.Books) { b.Move(move.From, move.To, move.Units) })
}

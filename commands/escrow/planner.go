package escrow

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Planner says when a site should give rights to another. Its zero value is good. It decides nothing itself, and needs no
// agreement: a plan that is late or wrong costs sales, and never sells what is not there.
//
// A site is short when it has less than LowWater of its target: its share of all that is available, by the demand at each
// site. The givers are the sites that have more than their target, each by its part of what is spare.
type Planner struct {
	// LowWater is a fraction of the target; zero means 0.2.
	LowWater float64
	// Interval is how often rights may move from a site at most, for one thing; zero means 2 s.
	Interval time.Duration
	// Floor is the demand that a site is taken to have at least, as a fraction of the mean: who has nothing to sell shows no
	// demand. Zero means 0.05.
	Floor float64
	// Among are the sites that may give and be given rights; what others have does not count. Nil means those of the books and those of
	// the demand.
	Among []string
}

// Move is a transfer of rights.
type Move struct {
	From, To string
	Units    int64
}

// Plan returns the move that a site should decide now, given its books, when it moved rights of this thing last (the zero time:
// never), and the demand at each site, in units per second. ok is false when there is nothing to move.
func (p Planner) Plan(site string, books Books, demand map[string]float64, last, now time.Time) (m Move, ok bool) {
	interval := p.Interval
	if interval == 0 {
		interval = 2 * time.Second
	}
	if !last.IsZero() && now.Sub(last) < interval {
		return Move{}, false
	}
	sites := p.Among
	if sites == nil {
		for _, r := range books.rows {
			sites = append(sites, r.Site)
		}
		sites = append(sites, slices.Collect(maps.Keys(demand))...)
	}
	sites = slices.Compact(slices.Sorted(slices.Values(sites)))
	targets := p.targets(sites, books, demand)
	spare, spares := 0.0, 0.0
	for i, s := range sites {
		more := float64(books.Available(s)) - targets[i]
		spares += max(more, 0)
		if s == site {
			spare = more
		}
	}
	if spare < 1 {
		return Move{}, false
	}
	needy, least := -1, p.lowWater()
	for i, s := range sites {
		if fill := float64(books.Available(s)) / targets[i]; targets[i] >= 1 && fill < least {
			needy, least = i, fill
		}
	}
	if needy < 0 {
		return Move{}, false
	}
	to := sites[needy]
	missing := targets[needy] - float64(books.Available(to))
	return Move{site, to, int64(math.Ceil(min(spare/spares*missing, math.Floor(spare))))}, true
}

func (p Planner) lowWater() float64 {
	if p.LowWater == 0 {
		return 0.2
	}
	return p.LowWater
}

// targets returns what each site should have of all that is available.
func (p Planner) targets(sites []string, books Books, demand map[string]float64) []float64 {
	floor := p.Floor
	if floor == 0 {
		floor = 0.05
	}
	available, sum := int64(0), 0.0
	for _, s := range sites {
		available += books.Available(s)
		sum += demand[s]
	}
	mean := sum / float64(len(sites))
	if mean == 0 {
		mean = 1
	}
	targets, weights := make([]float64, len(sites)), 0.0
	for i, s := range sites {
		targets[i] = max(demand[s], floor*mean)
		weights += targets[i]
	}
	for i := range targets {
		targets[i] *= float64(available) / weights
	}
	return targets
}

// Demand is how many units a second are asked for, with what is long ago counting less and less. The zero value has seen none.
type Demand struct {
	rate float64 // units a second, at the time at
	at   time.Time
}

// halfLife is after how long a sale counts half.
const halfLife = 30 * time.Second

// decay is the part of a rate that is left after some time.
func decay(d time.Duration) float64 { return math.Exp2(-d.Seconds() / halfLife.Seconds()) }

// Observe counts units that were asked for at a time. Times that go back count as the last one.
func (d *Demand) Observe(units int64, now time.Time) {
	d.rate = d.PerSecond(now) + float64(units)*math.Ln2/halfLife.Seconds()
	if now.After(d.at) {
		d.at = now
	}
}

// PerSecond returns the demand as of a time.
func (d Demand) PerSecond(now time.Time) float64 {
	if !now.After(d.at) {
		return d.rate
	}
	return d.rate * decay(now.Sub(d.at))
}

package replication

import (
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Words are what a site has told others since an agreement, kept across starts: it is bound by them until the next one is on
// record, for another site may have agreed to them meanwhile.
type Words struct {
	// Epoch is the roster's, Homed are the lists of homed categories that were told under it.
	Epoch uint32     `json:"epoch"`
	Homed [][]string `json:"homed"`
	// Founders are all sites that were told, before the system was founded, to be those that it begins with.
	Founders []string `json:"founders,omitempty"`
}

// accord is what a site knows when it judges whether all sites agree.
type accord struct {
	site   string
	given  []string
	own    Terms
	roster Roster
	words  Words
	// recorded are the other sites of which the log had events at the start.
	recorded []string
	// said is what others have told last since this site has started, fresh which of them are heard at present, met what those
	// knew of the cells when they were met.
	said  map[string]Terms
	fresh map[string]bool
	met   map[string][]CellsDigest
}

// verdict is what follows.
type verdict struct {
	differences []Difference
	blocked     Blocked
	// agreed, when set, is what this site has to put on record, when it holds what is named in after: what others have written
	// before they were bound by what they say. So whoever comes to know the agreement has that too.
	agreed *agreed
	after  []eventstore.Dot
	// enters, when set, is a site that was named here, is heard, and is not on record yet.
	enters string
}

// judge says what may not be written, and what all have agreed on.
//
// INVARIANT: a category is written as homed, or as one that is not, only where the roster, what the site was started with, and
// all that it has told others since say the same of it. An agreement is put on record by one site, from what all others have
// told under the roster as it is. So of two sites that go by different agreements each is bound, by its own words, to leave
// alone what those differ in.
func (a *accord) judge() verdict {
	var v verdict
	for _, site := range a.others() {
		if said, ok := a.said[site]; ok && a.fresh[site] {
			v.differences = append(v.differences, a.own.compare(site, &said, &v.blocked)...)
		}
	}
	for site, said := range a.said { // of those that nobody has named here
		if a.fresh[site] && !slices.Contains(a.others(), site) {
			v.differences = append(v.differences, a.own.compare(site, &said, &v.blocked)...)
		}
	}
	slices.SortStableFunc(v.differences, func(x, y Difference) int { return strings.Compare(x.Site, y.Site) })
	a.catchUp(&v.blocked)
	missing := a.missing()
	waits := ""
	if len(missing) > 0 {
		waits = "; not heard since this site has started, or of another mind: " + strings.Join(missing, ", ")
	}
	if a.roster.Epoch > 0 && !a.roster.Has(a.site) {
		v.blocked.all("this site is not on record as one that takes part: it is put there when another one that was given it hears it (--peer, or sites join)")
	}
	settled, text := a.roster.Homed, orNothing(strings.Join(a.roster.Homed, ","))+" was agreed on"
	if a.roster.Epoch == 0 { // an agreement on what it has said before may be on its way
		settled, text = a.own.Homed, "it has told others something else before"
		if unnamed := a.unnamed(); len(unnamed) > 0 {
			v.blocked.all("events of " + strings.Join(unnamed, ", ") + " are here, or others were told that the system begins with such a site, and it is not named: " +
				"name it (--peer), or, if it is gone for good, say so (sites found --without SITE)")
		}
		v.blocked.all("who writes what is agreed on when all sites that were named here (" + strings.Join(a.own.Founders, ", ") + ") have been heard" + waits)
	}
	for _, homed := range append([][]string{a.own.Homed}, a.words.Homed...) {
		for _, category := range symmetric(homed, settled) {
			v.blocked.category(category, "all sites have to be started with the same --homed: this one says "+orNothing(strings.Join(a.own.Homed, ","))+", and "+text+waits)
		}
	}
	for _, site := range a.given {
		if a.roster.Epoch > 0 && a.roster.Has(a.site) && a.fresh[site] && !a.roster.Has(site) && !slices.Contains(a.roster.Left, site) {
			v.enters = site
			return v
		}
	}
	if len(missing) == 0 && len(a.unnamed()) == 0 && a.first() && a.unsettled() {
		v.agreed = &agreed{Epoch: a.roster.Epoch + 1, Homed: slices.Clone(a.own.Homed)}
		if a.roster.Epoch == 0 {
			v.agreed.Sites = slices.Clone(a.own.Founders)
		}
		for _, site := range a.others() {
			v.after = append(v.after, a.said[site].Since)
		}
	}
	return v
}

// catchUp blocks cells of which another site knew more when it was met than this one knows by now: they may be somebody else's.
func (a *accord) catchUp(block *Blocked) {
	for site, cells := range a.met {
		for i := range min(len(cells), len(a.own.Cells)) {
			for cell := i * CellGroup; cell < (i+1)*CellGroup && a.own.Cells[i].Changes < cells[i].Changes; cell++ {
				block.cell(uint16(cell), "site "+site+" knows more of who writes it; it ends when that has come here")
			}
		}
	}
}

// others are the sites that have to agree, but for this one.
func (a *accord) others() []string {
	all := a.own.Founders
	if a.roster.Epoch > 0 {
		all = nil
		for _, m := range a.roster.Members {
			all = append(all, m.Site)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(site string) bool { return site == a.site })
}

// missing are those that have not said the same as this site, under the same agreement.
func (a *accord) missing() (out []string) {
	for _, site := range a.others() {
		said, ok := a.said[site]
		same := ok && said.Format == a.own.Format && said.Cluster == a.own.Cluster && said.Epoch == a.own.Epoch &&
			slices.Equal(said.Founders, a.own.Founders) && slices.Equal(said.Homed, a.own.Homed)
		if !same {
			out = append(out, site)
		}
	}
	return out
}

// unnamed are sites that may have a part in a system that is not founded yet, and that this one was not given: their events are
// here, or others were told of them, and may be about to found it with them.
func (a *accord) unnamed() (out []string) {
	if a.roster.Epoch > 0 {
		return nil
	}
	out = only(append(slices.Clone(a.recorded), a.words.Founders...), a.own.Founders)
	slices.Sort(out)
	return slices.Compact(out)
}

// first reports whether it is for this site to put on record what all agree on.
func (a *accord) first() bool {
	return !slices.ContainsFunc(a.others(), func(site string) bool { return site < a.site })
}

// unsettled reports whether there is something to put on record. A site that has no others and nothing homed needs no system.
func (a *accord) unsettled() bool {
	if a.roster.Epoch == 0 {
		return len(a.own.Founders) > 1 || len(a.own.Homed) > 0
	}
	return !slices.Equal(a.own.Homed, a.roster.Homed) || a.own.Bound ||
		slices.ContainsFunc(a.others(), func(site string) bool { return a.said[site].Bound })
}

// bound reports whether a list that was told is another than that of the roster.
func (w *Words) bound(r *Roster) bool {
	return r.Epoch > 0 && slices.ContainsFunc(w.Homed, func(told []string) bool { return !slices.Equal(told, r.Homed) })
}

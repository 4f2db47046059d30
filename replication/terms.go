package replication

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/tributary-es/tributary/eventstore"
)

// TermsFormat is the version of what sites say to each other. It rises when a site of before would misunderstand.
const TermsFormat = 1

// Terms are what sites tell each other with every heartbeat, because it must be the same at all of them, lest two take
// themselves for the one that may write a stream.
type Terms struct {
	Format uint32
	// Cluster is the system's name, Epoch the roster's, as far as the site knows; empty and 0 before it is founded.
	Cluster string
	Epoch   uint32
	// Founders are the sites that the ring is made of: those on record, before that those that the site was given and itself.
	Founders []string
	// Homed are the categories that the site was started with to have written at one site at a time, and Since is the last event of
	// its log then: what it wrote under another list is not behind it.
	Homed []string
	Since eventstore.Dot
	// Bound says that the site has told others another list since the last agreement, and waits for the next one.
	Bound bool
	// Roster is how many events of the roster the site has, RosterDigest is of which: two sites may have as many, and others.
	Roster       uint64
	RosterDigest uint64
	// Resolvers says for each category how its conflicts are resolved, such as order=domain.
	Resolvers []string
	// Cells are digests of who may write which cells, one for each CellGroup of them; none before that is known.
	Cells []CellsDigest
}

// CellGroup is how many cells have a digest in common.
const CellGroup = 64

// CellsDigest is of a group of cells: Epochs is a hash of how often each has changed hands, and Homes of whose it is; where the
// first are the same the second must be. Changes is how often all have: it only rises, so who has less does not know it all.
type CellsDigest struct{ Epochs, Homes, Changes uint64 }

// Digests returns a digest of each CellGroup of cells, nothing before an Owner has read who owns them.
func (f *Fence) Digests() []CellsDigest {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cells == nil || f.digests != nil {
		return f.digests
	}
	out := make([]CellsDigest, 0, eventstore.Cells/CellGroup)
	for group := range slices.Chunk(f.cells, CellGroup) {
		epochs, homes, changes := xxhash.New(), xxhash.New(), uint64(0)
		for _, c := range group {
			var b [5]byte
			binary.BigEndian.PutUint32(b[:], c.Epoch)
			if c.Sealed {
				b[4] = 1
			}
			changes += 2*uint64(c.Epoch) + uint64(b[4])
			_, _ = epochs.Write(b[:]) // it has no errors
			_, _ = homes.WriteString(c.Home.String() + " " + c.Next.String() + "\n")
		}
		out = append(out, CellsDigest{epochs.Sum64(), homes.Sum64(), changes})
	}
	f.digests = out
	return out
}

// Difference is something that must be the same at two sites and is not.
type Difference struct {
	// Site is the other one.
	Site string
	// What differs: format, cluster, founders, homed, cells or resolvers; Here and There are what it is.
	What, Here, There string
	// Blocks says what may not be written until it is the same; empty: it blocks nothing.
	Blocks string
}

// String is a line for people.
func (d *Difference) String() string {
	s := fmt.Sprintf("%s differs from site %s: here %s, there %s", d.What, d.Site, d.Here, d.There)
	if d.Blocks != "" {
		s += "; " + d.Blocks
	}
	return s
}

// compare returns what differs from another site's terms, and notes what may not be written because of it.
func (t *Terms) compare(site string, other *Terms, block *Blocked) (out []Difference) {
	note := func(what, here, there, blocks string) *Difference {
		out = append(out, Difference{site, what, orNothing(here), orNothing(there), blocks})
		return &out[len(out)-1]
	}
	if t.Format != other.Format {
		block.all(note("format", fmt.Sprint(t.Format), fmt.Sprint(other.Format), "nothing homed is written").String() +
			": the two may mean different things by what they say; run versions of the program at all sites that have the same")
	}
	founded := t.Cluster != "" && other.Cluster != ""
	switch here, there := strings.Join(t.Founders, ","), strings.Join(other.Founders, ","); {
	case founded && t.Cluster != other.Cluster:
		block.all(note("cluster", t.Cluster, other.Cluster, "nothing homed is written").String())
	case (founded || t.Cluster == "" && other.Cluster == "") && here != there:
		block.all(note("founders", here, there, "nothing homed is written").String() + ": start all sites with the same sites (--peer)")
	}
	for _, category := range symmetric(t.Homed, other.Homed) {
		d := Difference{site, "homed", orNothing(strings.Join(t.Homed, ",")), orNothing(strings.Join(other.Homed, ",")), "category " + category + " is not written"}
		block.category(category, d.String()+": start all sites with the same --homed")
		out = append(out, d)
	}
	for i := range min(len(t.Cells), len(other.Cells)) {
		if here, there := t.Cells[i], other.Cells[i]; here.Epochs == there.Epochs && here.Homes != there.Homes {
			first := i * CellGroup
			d := note("cells", fmt.Sprintf("%016x", here.Homes), fmt.Sprintf("%016x", there.Homes), fmt.Sprintf("cells %d to %d are not written", first, first+CellGroup-1))
			for cell := first; cell < first+CellGroup; cell++ {
				block.cell(uint16(cell), d.String()+": it ends when both have what the other has on record of them")
			}
		}
	}
	if here, there := only(t.Resolvers, other.Resolvers), only(other.Resolvers, t.Resolvers); len(here)+len(there) > 0 {
		note("resolvers", strings.Join(here, ","), strings.Join(there, ","), "")
	}
	return out
}

// only returns what one list has and the other has not.
func only(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

// symmetric returns what one of two lists has alone, in order.
func symmetric(a, b []string) []string {
	out := append(only(a, b), only(b, a)...)
	slices.Sort(out)
	return out
}

func orNothing(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Blocked says what may not be written for now, although the site is up: because sites do not agree on who may.
type Blocked struct {
	// All, when set, says why nothing homed may be; Categories and Cells say it of some.
	All        string
	Categories map[string]string
	Cells      map[uint16]string
}

func (b *Blocked) all(why string) {
	if b.All == "" {
		b.All = why
	}
}

func (b *Blocked) category(category, why string) {
	if b.Categories == nil {
		b.Categories = map[string]string{}
	}
	if b.Categories[category] == "" {
		b.Categories[category] = why
	}
}

func (b *Blocked) cell(cell uint16, why string) {
	if b.Cells == nil {
		b.Cells = map[uint16]string{}
	}
	if b.Cells[cell] == "" {
		b.Cells[cell] = why
	}
}

// Reasons returns each reason once, with what it holds back.
func (b *Blocked) Reasons() (out []string) {
	if b.All != "" {
		out = append(out, "nothing homed is written: "+b.All)
	}
	for _, category := range slices.Sorted(maps.Keys(b.Categories)) {
		out = append(out, "category "+category+" is not written: "+b.Categories[category])
	}
	cells := map[string][]uint16{}
	for _, cell := range slices.Sorted(maps.Keys(b.Cells)) {
		cells[b.Cells[cell]] = append(cells[b.Cells[cell]], cell)
	}
	for _, why := range slices.Sorted(maps.Keys(cells)) {
		out = append(out, fmt.Sprintf("%d cells, of which %d is the first, are not written: %s", len(cells[why]), cells[why][0], why))
	}
	return out
}

// Any reports whether anything is blocked.
func (b *Blocked) Any() bool { return b.All != "" || len(b.Categories)+len(b.Cells) > 0 }

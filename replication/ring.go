package replication

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/tributary-es/tributary/eventstore"
)

// Shard names a shard of a region, which is a site: "shard-02@sh".
type Shard struct {
	Number uint16
	Region string
}

// String returns the shard's label.
func (s Shard) String() string { return fmt.Sprintf("shard-%02d@%s", s.Number, s.Region) }

// ParseShard reads what Shard.String writes.
func ParseShard(label string) (Shard, error) {
	name, region, ok := strings.Cut(label, "@")
	digits, named := strings.CutPrefix(name, "shard-")
	number, err := strconv.ParseUint(digits, 10, 16)
	if !ok || !named || err != nil {
		return Shard{}, fmt.Errorf("%w: shard %q is not of the form shard-02@sh", eventstore.ErrInvalid, label)
	}
	if err := eventstore.ValidateSite(region); err != nil {
		return Shard{}, fmt.Errorf("shard %q: %w", label, err)
	}
	return Shard{uint16(number), region}, nil
}

// Ring spreads the cells, and with them all keys, over shards by consistent hashing: each shard stands at PointsPerShard
// places of a ring, and a cell belongs to the shard whose place comes next after its own. So a shard that is added or lost
// moves its own share of cells and no other, and every site that knows the same shards has the same ring. A Ring does not
// change; it is safe for concurrent use.
type Ring struct {
	shards []Shard
	cells  [eventstore.Cells]Shard
}

// PointsPerShard is at how many places of the ring a shard stands. With it, the largest share of three shards is within
// about a fifth of the mean.
const PointsPerShard = 256

// NewRing returns the ring of some shards, at least one.
func NewRing(shards ...Shard) (*Ring, error) {
	if len(shards) == 0 {
		return nil, fmt.Errorf("%w: a ring needs a shard", eventstore.ErrInvalid)
	}
	r := &Ring{shards: slices.Clone(shards)}
	slices.SortFunc(r.shards, Shard.compare)
	if twice := len(slices.Compact(slices.Clone(r.shards))); twice != len(r.shards) {
		return nil, fmt.Errorf("%w: a shard is named twice", eventstore.ErrInvalid)
	}
	type point struct {
		at    uint64
		shard Shard
	}
	points := make([]point, 0, len(r.shards)*PointsPerShard)
	for _, s := range r.shards {
		for i := range PointsPerShard {
			points = append(points, point{xxhash.Sum64String(s.String() + "#" + strconv.Itoa(i)), s})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.at, b.at), a.shard.compare(b.shard)) })
	for cell := range r.cells {
		var b [2]byte
		binary.BigEndian.PutUint16(b[:], uint16(cell))
		i, _ := slices.BinarySearchFunc(points, xxhash.Sum64(b[:]), func(p point, at uint64) int { return cmp.Compare(p.at, at) })
		r.cells[cell] = points[i%len(points)].shard
	}
	return r, nil
}

func (s Shard) compare(other Shard) int {
	return cmp.Or(cmp.Compare(s.Region, other.Region), cmp.Compare(s.Number, other.Number))
}

// Shards returns the ring's shards, sorted.
func (r *Ring) Shards() []Shard { return slices.Clone(r.shards) }

// Of returns the shard of a cell. REQUIRES: cell < eventstore.Cells.
func (r *Ring) Of(cell uint16) Shard { return r.cells[cell] }

// Route returns the label of the shard that a key belongs to, such as "shard-02@sh"; what stands after the @ says to which
// region a request for it goes. The key of a stream is its StreamID.String.
func (r *Ring) Route(key string) string { return r.cells[eventstore.CellOfKey(key)].String() }

// With returns the ring that has one more shard.
func (r *Ring) With(s Shard) (*Ring, error) { return NewRing(append(slices.Clone(r.shards), s)...) }

// Without returns the ring without a region, whose share goes to the others.
func (r *Ring) Without(region string) (*Ring, error) {
	return NewRing(slices.DeleteFunc(slices.Clone(r.shards), func(s Shard) bool { return s.Region == region })...)
}

package redisview

import "strconv"

// names are the keys of one projection. docs/redis.md is about them.
type names struct {
	base string // "tributary:orders:"

	cursor      string // hash: the live generation and where it stands
	building    string // hash: the same of the generation that is being filled
	generations string // counter of generations
	garbage     string // set: generations whose keys are still to be deleted
	skipped     string // hash: position → what an operator said to skip
}

func newNames(prefix, projection string) names {
	base := prefix + ":" + projection + ":"
	return names{
		base: base, cursor: base + "cursor", building: base + "building", generations: base + "generations",
		garbage: base + "garbage", skipped: base + "skipped",
	}
}

// model returns what the keys of a generation's model begin with.
func (n *names) model(generation int64) string {
	return n.base + strconv.FormatInt(generation, 10) + ":"
}

// parked returns the key of a generation's parked events, a hash: position → event.
func (n *names) parked(generation int64) string {
	return n.base + "parked:" + strconv.FormatInt(generation, 10)
}

// The fields of a cursor's hash.
const (
	fieldGeneration = "generation"
	fieldVersion    = "version"
	fieldPosition   = "position"
	fieldSeq        = "seq"
	// fieldEdits counts what operators did to the parked events.
	fieldEdits = "edits"
)

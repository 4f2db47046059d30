package projections_test

import (
	"math"
	"testing"

	"github.com/tributary-es/tributary/projections"
)

func TestDigestTellsContentApartAndNotOrder(t *testing.T) {
	sum := func(tell ...func(d *projections.Digest)) string {
		var d projections.Digest
		for _, f := range tell {
			f(&d)
		}
		return d.Sum()
	}
	str := func(key, value string) func(*projections.Digest) {
		return func(d *projections.Digest) { d.String(key, []byte(value)) }
	}
	field := func(key, field, value string) func(*projections.Digest) {
		return func(d *projections.Digest) { d.Field(key, field, value) }
	}
	member := func(key, member string, score float64) func(*projections.Digest) {
		return func(d *projections.Digest) { d.Member(key, member, score) }
	}
	if sum(str("a", "1"), field("h", "f", "v"), member("z", "m", 1)) != sum(member("z", "m", 1), str("a", "1"), field("h", "f", "v")) {
		t.Error("the order counts")
	}
	if sum(member("z", "m", 0)) != sum(member("z", "m", math.Copysign(0, -1))) {
		t.Error("0 and -0 are two scores")
	}
	seen := make(map[string]int)
	for i, s := range []string{
		sum(), sum(str("a", "1")), sum(str("a", "1"), str("b", "1")), sum(str("a", "11")), sum(str("a1", "1")), sum(str("a", "")),
		sum(field("a", "1", "")), sum(field("a", "", "1")), sum(field("", "a", "1")), sum(field("a", "1", "1")),
		sum(member("a", "1", 0)), sum(member("a", "1", 1)), sum(member("a1", "", 1)), sum(field("h", "f", "1"), field("h", "g", "2")),
		sum(field("h", "f", "2"), field("h", "g", "1")), sum(str("a", "1"), str("a", "1")),
	} {
		if j, twice := seen[s]; twice {
			t.Errorf("contents %d and %d have one digest", j, i)
		}
		seen[s] = i
	}
	const golden = "bf69b685b386991cfbb34e7c864479361cd71557344a26ca670fe6b5d31f2ff0"
	if got := sum(str("key", "value"), field("hash", "field", "value"), member("set", "member", 1.5)); got != golden {
		t.Errorf("the digest of a known content is %s, want %s: digests that were noted down are worth nothing now", got, golden)
	}
}

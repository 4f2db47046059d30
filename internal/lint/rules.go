package lint

import "sort"

// Rules are all rules of the house.
var Rules = []func(*Tree) []Finding{
	Imports, Purity, Output, Length, Names, Finished, Places, WireNames, Overview, Invariants, Schemas,
}

// Check applies all rules and returns the findings in the order of their places.
func Check(t *Tree) []Finding {
	var findings []Finding
	for _, rule := range Rules {
		findings = append(findings, rule(t)...)
	}
	sort.SliceStable(findings, func(i, j int) bool {
		a, b := findings[i], findings[j]
		if a.Path != b.Path {
			return a.Path < b.Path
		}
		return a.Line < b.Line
	})
	return findings
}

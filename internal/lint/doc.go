// Package lint keeps the rules of the house that no compiler and no general linter knows: who may import whom, where a
// driver may be named, what the pure domain must not touch, how files, packages and wire names look, and that the
// documents that speak of the code still speak the truth.
//
//	Load ─► Tree (every Go file parsed, every text read) ─► Rules, each a function of the Tree ─► Findings
//
// The rules run as an ordinary test over this repository. Each of them is also shown, by a test, to catch a violation in
// a small tree made for it: a rule that cannot fail keeps nothing.
//
// The files are read by themselves, not through the go command, so that the rules see what is built for every platform
// and under every tag, and cost a second.
package lint

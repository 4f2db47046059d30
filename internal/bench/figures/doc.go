// Command figures measures what docs/performance.md shows, and writes the page's tables.
//
//	go run ./internal/bench/figures measure [-only NAME] [-runs 3] [-binary bin/tributary]   into docs/performance.json
//	go run ./internal/bench/figures peers FILE                                              takes the lines of internal/bench/peers
//	go run ./internal/bench/figures write                                                   docs/performance.md from it
//
// Each figure is the median of its runs, with the lowest and the highest beside it. What stands between the marks in the
// page is never typed by hand; a test holds the page against the file. Measure on a machine that does nothing else.
package main

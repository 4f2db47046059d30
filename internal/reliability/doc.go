// Package reliability holds what the reliability tests have in common: the result that each of them prints, the figures
// that are wanted, and the page docs/reliability.md, which is written from both.
//
// A test makes a Result and calls Print, which writes one line, RELIABILITY and the result as JSON, to the test's output
// and, when the environment names a file in TRIBUTARY_RELIABILITY, appends the result to it too. The results that are on
// record are in docs/reliability.json:
//
//	TRIBUTARY_RELIABILITY=F go test PACKAGE -run TEST -long   what is seen goes to F
//	go test ./internal/reliability -update -results F         from F into the record, and from the record the page
//
// A test fails when the page is not the one that the record gives. Only tests import this package.
package reliability

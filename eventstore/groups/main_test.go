package groups_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A run of the model takes a third of a millisecond, and what it looks for is rare.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("4000"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

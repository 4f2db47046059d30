package engine_test

import (
	"os"
	"testing"
)

// TestMain lets the test binary also be the other process that some tests need: one that is killed.
func TestMain(m *testing.M) {
	if run, ok := otherProcesses[os.Getenv("ENGINE_TEST_PROCESS")]; ok {
		run()
		return
	}
	os.Exit(m.Run())
}

var otherProcesses = map[string]func(){
	"holder": holdServers,
	"fetch":  fetchInOtherProcess,
}

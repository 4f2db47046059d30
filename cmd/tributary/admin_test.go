package main

import (
	"strings"
	"testing"

	"github.com/tributary-es/tributary/node"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// What verify found is printed whole for a person, however much there is of it; large numbers are written out.
func TestVerifiedFigures(t *testing.T) {
	var out strings.Builder
	printReport(&globals{out: &out}, &apiv1.VerifyProgress{ReportJson: `{"log":{"events":12345678,"streams":2,"position":12345678,"verified":true},
		"kafka":{"records":3,"missing":0,"duplicates":0},
		"clickhouse":{"lines":5,"net":"1830.6","by_country":{"France":"1","Norway":"2"},"by_month":{"2010-12":"3"}},"faults":[]}`})
	want := "log         events 12345678, position 12345678, streams 2, verified\n" +
		"kafka       duplicates 0, missing 0, records 3\n" +
		"clickhouse  lines 5, net 1830.6, by country: 2, by month: 1\n" +
		"no faults\n"
	if out.String() != want {
		t.Errorf("it prints\n%s, want\n%s", out.String(), want)
	}
}

// A log that was not asked for is not said to be wrong; one that is wrong is.
func TestVerifiedLog(t *testing.T) {
	for _, faults := range [][]string{nil, {"log: lsn 7: corrupt"}} {
		var out strings.Builder
		printReport(&globals{out: &out}, &apiv1.VerifyProgress{ReportJson: `{"log":{"events":0,"verified":false},"redis":{"orders":1},"faults":[]}`, Faults: faults})
		if got := out.String(); strings.Contains(got, "not verified") != (len(faults) > 0) || !strings.Contains(got, "orders 1") {
			t.Errorf("with faults %q it prints\n%s", faults, got)
		}
	}
}

// Who drops and gets nothing dropped learns that only whole segments go.
func TestDropOfNothing(t *testing.T) {
	var out strings.Builder
	(&globals{out: &out}).dropped(&node.DropReport{First: "1-7"})
	if got := out.String(); !strings.Contains(got, "only whole") || !strings.Contains(got, "1-7") {
		t.Errorf("it prints %q", got)
	}
}

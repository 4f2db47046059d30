package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// A stream is named with its tenant or without, and what is no name is refused before anything is asked.
func TestStreamName(t *testing.T) {
	for given, want := range map[string]string{
		"order/42": "default/order/42", "acme/order/42": "acme/order/42", "acme/order/4/2": "acme/order/4/2", "$roster/sites": "default/$roster/sites",
		"order": "", "order/": "", "/42": "", "a/b/": "", "Order/42": "",
	} {
		var flags struct{ Stream streamName }
		parser, err := kong.New(&flags)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse([]string{"--stream", given})
		if (err == nil) != (want != "") || err == nil && flags.Stream.String() != want {
			t.Errorf("--stream %s is %q, %v; want %q", given, &flags.Stream, err, want)
		}
		if !strings.Contains(given, "/") && !strings.Contains(err.Error(), "[TENANT/]CATEGORY/ID") {
			t.Errorf("--stream %s: %v; want the form that is taken", given, err)
		}
	}
	var none streamName
	if none.given() || none.String() != "" {
		t.Errorf("without the flag the stream is %q", &none)
	}
}

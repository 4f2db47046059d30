package main

import (
	"bytes"
	"strings"
	"testing"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// A person sees of an event that it is void, and why, and that the personal data in it are gone.
func TestEventsThatDoNotCountAreMarked(t *testing.T) {
	for _, c := range []struct {
		event *apiv1.Event
		ends  string
	}{
		{&apiv1.Event{PayloadJson: "{}"}, "{}\n"},
		{&apiv1.Event{PayloadJson: "{}", Erased: true}, "{}  (personal data erased)\n"},
		{&apiv1.Event{PayloadJson: "{}", Voided: true, VoidReason: "it was shipped"}, "{}  (void: it was shipped)\n"},
		{&apiv1.Event{PayloadJson: "{}", Erased: true, Voided: true, VoidReason: "x"}, "{}  (personal data erased)  (void: x)\n"},
	} {
		var out strings.Builder
		if err := printEvent(&globals{out: &out}, c.event); err != nil || !strings.HasSuffix(out.String(), c.ends) {
			t.Errorf("%v is printed as %q, %v; want it to end with %q", c.event, out.String(), err, c.ends)
		}
	}
}

// Who waits for events of a folder without a server is told to start one: no server is started for it, which would be the only one to write.
func TestTailNeedsAServer(t *testing.T) {
	var out, errOut bytes.Buffer
	if exit := run(t.Context(), []string{"events", "tail", "--data", t.TempDir()}, &out, &errOut); exit != exitInput ||
		!strings.Contains(errOut.String(), "nothing comes in a folder without a server") || !strings.Contains(errOut.String(), "tributary serve --data") {
		t.Errorf("exit code %d, stderr %q", exit, errOut.String())
	}
}

// The help says truly what becomes of a stopped folder.
func TestHelpSaysWhatBecomesOfAStoppedFolder(t *testing.T) {
	for command, said := range map[string]string{
		"verify": "else the folder is opened.", "events read": "else the folder is shown as it is.", "events tail": "is found.",
		"cells list": "else the folder is shown as it is.", "cells move 1": "else the folder is opened.", "groups list": "else the folder is shown as it is.",
		"schemas list": "else the folder is shown as it is.", "parked list": "if its site has no others.", "conflicts": "if its site has no others.",
		"sites status": "is found.",
	} {
		var out, errOut bytes.Buffer
		exit := run(t.Context(), append(strings.Fields(command), "--help"), &out, &errOut)
		_, text, _ := strings.Cut(strings.Join(strings.Fields(out.String()), " "), "Data folder; the server that runs on it ")
		if first, _, _ := strings.Cut(text, "."); exit != exitDone || !strings.HasSuffix(first+".", said) {
			t.Errorf("%s: exit code %d, the help of --data ends with %q, want %q", command, exit, first, said)
		}
	}
}

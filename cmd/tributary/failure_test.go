package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/engine"
)

// With --json a failure is one object in the last line of stderr, with a code to branch on; without, it is a line for a person. The exit
// codes are the same.
func TestFailures(t *testing.T) {
	answer, err := status.New(codes.Unavailable, "stream <x> is moving").WithDetails(&errdetails.ErrorInfo{
		Metadata: map[string]string{"type": "https://tributary.dev/problems/moving", "hint": "try again in a moment"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want failure
	}{
		{errors.New("no \"luck\""), failure{`no "luck"`, "failed", 1, ""}},
		{fmt.Errorf("%w: nothing is named", eventstore.ErrInvalid), failure{"invalid: nothing is named", "invalid", 2, ""}},
		{&engine.MissingError{Status: engine.Status{Package: &engine.Package{Title: "ClickHouse"}, Hint: "tributary setup"}}, failure{"", "missing", 3, "tributary setup"}},
		{errFaults, failure{"verification found faults", "faults", 4, ""}},
		{errAway, failure{"not every site could be compared with", "away", 5, ""}},
		{fmt.Errorf("move cells: %w", answer.Err()), failure{"move cells: stream <x> is moving", "moving", 1, "try again in a moment"}},
	} {
		var text, object bytes.Buffer
		if exit := fail(&text, c.err, exitCode(c.err), false); exit != c.want.Exit || !strings.HasPrefix(text.String(), "tributary: "+c.want.Message) || strings.Count(text.String(), "\n") != 1 {
			t.Errorf("%v: exit code %d, %q", c.err, exit, text.String())
		}
		exit := fail(&object, c.err, exitCode(c.err), true)
		var got map[string]failure
		if err := json.Unmarshal(object.Bytes(), &got); err != nil || strings.Count(object.String(), "\n") != 1 {
			t.Fatalf("%v: %q: %v", c.err, object.String(), err)
		}
		if c.want.Message == "" {
			c.want.Message = c.err.Error()
		}
		if exit != c.want.Exit || got["error"] != c.want {
			t.Errorf("%v: exit code %d, %+v, want %+v", c.err, exit, got["error"], c.want)
		}
	}
}

// What is wrong with the command line itself is told in the same way.
func TestFailureOfTheCommandLine(t *testing.T) {
	var out, errOut bytes.Buffer
	if exit := run(t.Context(), []string{"cells", "list", "--json", "--no-such-flag"}, &out, &errOut); exit != exitInput || out.Len() > 0 {
		t.Errorf("exit code %d, stdout %q", exit, out.String())
	}
	var got map[string]failure
	if err := json.Unmarshal(errOut.Bytes(), &got); err != nil || got["error"].Code != "invalid" || !strings.Contains(got["error"].Message, "no-such-flag") {
		t.Errorf("stderr %q: %v", errOut.String(), err)
	}
}

// Who names the address of HTTP for that of gRPC is told so.
func TestAddressOfHTTP(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	var out, errOut bytes.Buffer
	exit := run(t.Context(), []string{"groups", "list", "--addr", s.Listener.Addr().String()}, &out, &errOut)
	if exit != exitFailed || !strings.Contains(errOut.String(), "speaks HTTP and not gRPC") {
		t.Errorf("exit code %d, stderr %q", exit, errOut.String())
	}
}

// What is not there, and what a server does not do, is the caller's to change, whether the server says so or the command itself.
func TestExitCodesOfWrongInput(t *testing.T) {
	for _, err := range []error{
		eventstore.ErrNotFound, eventstore.ErrUnsupported, eventstore.ErrInvalid,
		status.Error(codes.NotFound, ""), status.Error(codes.Unimplemented, ""), status.Error(codes.InvalidArgument, ""),
	} {
		if exit := exitCode(fmt.Errorf("ask: %w", err)); exit != exitInput {
			t.Errorf("%v: exit code %d, want %d", err, exit, exitInput)
		}
	}
	if exit := exitCode(status.Error(codes.Unavailable, "")); exit != exitFailed {
		t.Errorf("a server that is away: exit code %d", exit)
	}
}

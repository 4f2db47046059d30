package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/internal/engine"
)

// failure is what a command that has failed says with --json, as the last line of stderr: stdout is for answers, which a command that
// found faults has printed all the same.
type failure struct {
	Message string `json:"message"`
	// Code is what docs/api.md calls the problem where a server has answered with one, else a word for the exit code.
	Code string `json:"code"`
	Exit int    `json:"exit"`
	// Do is what to do about it, where more is known than the message says.
	Do string `json:"do,omitempty"`
}

// exitWords are the exit codes as words, for programs.
var exitWords = map[int]string{exitFailed: "failed", exitInput: "invalid", exitMissing: "missing", exitFaults: "faults", exitAway: "away"}

// wantsJSON reports whether a command line asks for JSON, whatever else is wrong with it.
func wantsJSON(args []string) bool {
	return slices.Contains(args, "--json") || slices.Contains(args, "-j")
}

// fail says why a command has failed, for a person or as JSON, and returns the exit code.
func fail(w io.Writer, err error, exit int, asJSON bool) int {
	if !asJSON {
		fmt.Fprintf(w, "tributary: %s%s\n", inWords(err), againstDamage(err))
		return exit
	}
	f := failure{Message: inWords(err), Code: exitWords[exit], Exit: exit}
	var missing *engine.MissingError
	if errors.As(err, &missing) {
		f.Do = missing.Status.Hint
	}
	if info := answered(err); info != nil {
		f.Do = info.GetMetadata()["hint"]
		if problem := info.GetMetadata()["type"]; problem != "" {
			f.Code = path.Base(problem)
		}
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string]failure{"error": f}); err != nil { // INVARIANT: strings and numbers can be encoded
		line.Reset()
		fmt.Fprintf(&line, "tributary: %s\n", f.Message)
	}
	_, _ = w.Write(line.Bytes()) // stderr is gone: nobody to tell
	return exit
}

// answered returns what a server said of an error beside its text; nil when none has.
func answered(err error) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// againstDamage is what a server says to do about damage, of which the error itself says no more than that there is some.
func againstDamage(err error) string {
	if info := answered(err); info != nil && damage(err) && info.GetMetadata()["hint"] != "" {
		return "; " + info.GetMetadata()["hint"]
	}
	return ""
}

// inWords takes the form of gRPC off an error that came from a server.
func inWords(err error) string {
	const form = "rpc error: code = "
	before, rest, remote := strings.Cut(err.Error(), form)
	if _, description, ok := strings.Cut(rest, " desc = "); remote && ok {
		if strings.Contains(description, "looked like an HTTP/1.1 header") || strings.Contains(description, "received unexpected content-type") { // so says the library of gRPC
			description = "that port speaks HTTP and not gRPC: name the server's gRPC address (serve --grpc), or leave --addr out and name its folder with --data"
		}
		return before + description
	}
	return err.Error()
}

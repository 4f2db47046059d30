package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decodeRequest fills in with what the HTTP request says: its path, its query string, its body. Faults are *Problem.
func (s *Server) decodeRequest(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	if err := s.decodeBody(w, r, rt, in); err != nil {
		return err
	}
	if err := decodeQuery(r, rt, in.ProtoReflect()); err != nil {
		return err
	}
	return decodePath(r, rt, in.ProtoReflect())
}

func (s *Server) decodeBody(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	body, err := s.readBody(w, r)
	switch {
	case err != nil:
		return err
	case len(body) == 0:
		return nil
	case rt.body == "":
		return problemf(kindInvalid, "parameters of this route: "+rt.queryNames(), "body: this route takes none")
	}
	if err := checkDepth(body, maxJSONDepth); err != nil {
		return err
	}
	if err := protojson.Unmarshal(body, in); err != nil {
		return problemf(kindInvalid, "see /openapi.json for the fields", "body: %s", jsonFault(err))
	}
	return nil
}

// readBody reads the request's body, bounded in size and time.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength != 0 {
		if err := checkMedia(r.Header); err != nil {
			return nil, err
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.options.MaxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, err
	case err != nil:
		return nil, problemf(kindInvalid, "", "read body: %v", err)
	}
	// The request is read: the call may take longer than sending it may. A recorder of tests knows no deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// checkMedia takes JSON. A body without a type, or with the one that curl gives to every -d, is read as JSON as well.
func checkMedia(h http.Header) error {
	if e := h.Get("Content-Encoding"); e != "" && e != "identity" {
		return problemf(kindMedia, "send the body as it is", "Content-Encoding %q is not taken", e)
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(ct)
	if charset := params["charset"]; err == nil && charset != "" && !strings.EqualFold(charset, "utf-8") {
		return problemf(kindMedia, "send UTF-8", "Content-Type %q is not taken", ct)
	}
	if err != nil || media != "application/json" && media != "application/x-www-form-urlencoded" {
		return problemf(kindMedia, "send Content-Type: application/json", "Content-Type %q is not taken", ct)
	}
	return nil
}

// decodePath sets the fields that the path names. A body that says otherwise is refused rather than overruled.
func decodePath(r *http.Request, rt *route, in protoreflect.Message) error {
	for _, f := range rt.pathVars {
		name := string(f.Name())
		v, err := parseValue(f.Kind(), r.PathValue(name))
		if err != nil {
			return problemf(kindInvalid, "", "path: %s: %v", name, err)
		}
		if in.Has(f) && !in.Get(f).Equal(v) {
			return problemf(kindInvalid, "leave it out of the body", "%s is %v in the path and %v in the body", name, v, in.Get(f))
		}
		in.Set(f, v)
	}
	return nil
}

const maxJSONDepth = 64

// checkDepth bounds the nesting of a JSON text before anything recursive reads it.
func checkDepth(body []byte, limit int) error {
	if !utf8.Valid(body) {
		return problemf(kindInvalid, "send UTF-8", "the body is not valid UTF-8")
	}
	depth, inString, escaped := 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return problemf(kindInvalid, "", "the body is nested deeper than %d", limit)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// unquoted matches what protojson says of a number where a string belongs, such as a price.
var unquoted = regexp.MustCompile(`invalid value for string field \S+: (-?[0-9][0-9.eE+-]*)$`)

// jsonFault takes the instability out of protojson's errors, which vary their spaces on purpose, and says what to do about
// numbers without quotes.
func jsonFault(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimPrefix(text, "proto: ")
	if m := unquoted.FindStringSubmatch(text); m != nil {
		text += fmt.Sprintf("; write it as a string: %q", m[1])
	}
	return text
}

// readAfterParam is X-Read-After as a parameter, for where headers cannot be set.
const readAfterParam = "read_after"

// withReadAfter gives the method the parameter read_after as it gives it the header.
func withReadAfter(ctx context.Context, r *http.Request, rt *route) (context.Context, error) {
	values := r.URL.Query()[readAfterParam]
	if len(values) == 0 || !rt.waits() {
		return ctx, nil
	}
	if has(ctx, "x-read-after") {
		return ctx, problemf(kindInvalid, "", "X-Read-After is given as a header and as a parameter, give it once")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	md["x-read-after"] = values
	return metadata.NewIncomingContext(ctx, md), nil
}

func decodeQuery(r *http.Request, rt *route, in protoreflect.Message) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problemf(kindInvalid, "", "query: %v", err)
	}
	known := map[string]protoreflect.FieldDescriptor{}
	for _, f := range rt.query {
		known[string(f.Name())] = f
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		f, ok := known[name]
		switch {
		case name == readAfterParam && rt.waits():
			continue
		case !ok:
			return problemf(kindInvalid, "parameters of this route: "+rt.queryNames(), "query: parameter %q is unknown", name)
		case len(values) > 1 && !f.IsList():
			return problemf(kindInvalid, "", "query: parameter %q is given %d times", name, len(values))
		}
		for _, text := range values {
			v, err := parseValue(f.Kind(), text)
			if err != nil {
				return problemf(kindInvalid, "", "query: %s: %v", name, err)
			}
			if f.IsList() {
				in.Mutable(f).List().Append(v)
			} else {
				in.Set(f, v)
			}
		}
	}
	return nil
}

// parseValue parses text as a value of a plain field; its zero value and an error when it is none. Kinds that are not
// here are refused when the route is bound.
func parseValue(k protoreflect.Kind, text string) (protoreflect.Value, error) {
	switch k {
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return protoreflect.Value{}, errors.New("not valid UTF-8")
		}
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(text)
		return protoreflect.ValueOfBool(b), plainFault(err, text, "true or false")
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		return protoreflect.ValueOfUint32(uint32(n)), plainFault(err, text, "a number from 0 to 4294967295")
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(n), plainFault(err, text, "a number from 0 to 18446744073709551615")
	case protoreflect.Int64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), plainFault(err, text, "a whole number")
	}
	return protoreflect.Value{}, errNotPlain
}

var errNotPlain = errors.New("cannot stand in a path or a query string")

func plainFault(err error, text, want string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q is not %s", text, want)
}

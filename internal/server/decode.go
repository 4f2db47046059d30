package server

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decodeRequest fills in with what the HTTP request says: its body, its query string, its path. The path has the last
// word. Faults are *Problem.
func (s *Server) decodeRequest(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	if rt.body != "" {
		if err := s.decodeBody(w, r, in); err != nil {
			return err
		}
	}
	if err := decodeQuery(r, rt, in.ProtoReflect()); err != nil {
		return err
	}
	for _, f := range rt.pathVars {
		name := string(f.Name())
		if err := setField(in.ProtoReflect(), f, r.PathValue(name)); err != nil {
			return problemf(400, "invalid", "Request is invalid", "", "path: %s: %v", name, err)
		}
	}
	return nil
}

func (s *Server) decodeBody(w http.ResponseWriter, r *http.Request, in proto.Message) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return problemf(415, "media-type", "Media type is not supported", "send the body as it is", "Content-Encoding %q is not taken", e)
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return problemf(415, "media-type", "Media type is not supported", "send Content-Type: application/json", "Content-Type %q is not taken", ct)
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.options.MaxBodyBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return problemf(413, "too-large", "Request is beyond a limit", "send less at once", "the body is larger than %d bytes", tooLarge.Limit)
		}
		return problemf(400, "invalid", "Request is invalid", "", "read body: %v", err)
	}
	if len(body) == 0 {
		return nil
	}
	if err := checkDepth(body, maxJSONDepth); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(body, in); err != nil {
		return problemf(400, "invalid", "Request is invalid", "see /openapi.json for the fields", "body: %v", jsonFault(err))
	}
	return nil
}

const maxJSONDepth = 64

// checkDepth bounds the nesting of a JSON text before anything recursive reads it.
func checkDepth(body []byte, limit int) error {
	if !utf8.Valid(body) {
		return problemf(400, "invalid", "Request is invalid", "send UTF-8", "the body is not valid UTF-8")
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
				return problemf(400, "invalid", "Request is invalid", "", "the body is nested deeper than %d", limit)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// jsonFault takes the instability out of protojson's errors, which vary their spaces on purpose.
func jsonFault(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return syntax.Error()
	}
	text := []rune(err.Error())
	for i, c := range text {
		if c == '\u00a0' {
			text[i] = ' '
		}
	}
	out := string(text)
	for _, prefix := range []string{"proto: "} {
		if len(out) > len(prefix) && out[:len(prefix)] == prefix {
			out = out[len(prefix):]
		}
	}
	return out
}

func decodeQuery(r *http.Request, rt *route, in protoreflect.Message) error {
	query := r.URL.Query()
	if len(query) == 0 {
		return nil
	}
	known := map[string]protoreflect.FieldDescriptor{}
	for _, f := range rt.queryFields() {
		known[string(f.Name())] = f
	}
	for name, values := range query {
		f, ok := known[name]
		if !ok {
			return problemf(400, "invalid", "Request is invalid", "parameters of this route: "+rt.queryNames(), "query: parameter %q is unknown", name)
		}
		if len(values) > 1 && !f.IsList() {
			return problemf(400, "invalid", "Request is invalid", "", "query: parameter %q is given %d times", name, len(values))
		}
		for _, v := range values {
			if err := setField(in, f, v); err != nil {
				return problemf(400, "invalid", "Request is invalid", "", "query: %s: %v", name, err)
			}
		}
	}
	return nil
}

// setField parses text as a value of the plain field f; lists get one more element.
func setField(m protoreflect.Message, f protoreflect.FieldDescriptor, text string) error {
	v, err := parseValue(f.Kind(), text)
	if err != nil {
		return err
	}
	if f.IsList() {
		m.Mutable(f).List().Append(v)
		return nil
	}
	m.Set(f, v)
	return nil
}

func parseValue(kind protoreflect.Kind, text string) (protoreflect.Value, error) {
	switch kind {
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
		return protoreflect.ValueOfUint32(uint32(n)), plainFault(err, text, "a number from 0 on")
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(n), plainFault(err, text, "a number from 0 on")
	case protoreflect.Int64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), plainFault(err, text, "a whole number")
	}
	return protoreflect.Value{}, errors.New("cannot be given here")
}

func plainFault(err error, text, want string) error {
	if err == nil {
		return nil
	}
	return errors.New(strconv.Quote(text) + " is not " + want)
}

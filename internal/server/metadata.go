package server

import (
	"context"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	"github.com/tributary-es/tributary/eventstore"
)

// callHeaders are the metadata that methods read, which over HTTP are headers.
var callHeaders = []string{
	"idempotency-key", "if-match", "x-durability", "x-read-after", "x-tenant", "x-correlation-id", "x-causation-id", "traceparent", "tracestate",
}

// maxMetadataBytes bounds each value of a call's metadata. The store has lower limits for some.
const maxMetadataBytes = 256

// maxTraceStateBytes is the length up to which the trace context's specification asks that tracestate be passed on.
const maxTraceStateBytes = 512

// incoming gives the headers of an HTTP request to a method as gRPC gives metadata.
func incoming(header map[string][]string) metadata.MD {
	md := metadata.MD{}
	for _, name := range callHeaders {
		if v := header[textproto.CanonicalMIMEHeaderKey(name)]; len(v) > 0 {
			md[name] = v
		}
	}
	return md
}

var traceParent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$`)

// checkMetadata refuses metadata that would be misread: given twice, empty, too long, or unprintable. A trace context
// that is malformed is left out, as its specification asks: it must not fail a call. It is the same for both protocols.
// The context that it returns keeps what methods read, for Headers.
func checkMetadata(ctx context.Context) (context.Context, error) {
	md, ok := metadata.FromIncomingContext(ctx) // a copy
	if !ok {
		return ctx, nil
	}
	if !slices.ContainsFunc(callHeaders, func(name string) bool { return len(md[name]) > 0 }) {
		return context.WithValue(ctx, checkedKey{}, noHeaders), nil
	}
	changed := false
	for _, name := range callHeaders {
		values := md[name]
		if len(values) == 0 {
			continue
		}
		if strings.HasPrefix(name, "trace") {
			if !traceable(name, values) {
				delete(md, name)
				changed = true
			}
			continue
		}
		most := maxMetadataBytes
		if name == "x-read-after" {
			most = maxTokenBytes
		}
		if fault := metadataFault(values, most); fault != "" {
			return ctx, problemf(kindInvalid, "", "%s %s", headerName(name), fault)
		}
	}
	if len(md["traceparent"]) == 0 && len(md["tracestate"]) > 0 { // which means nothing alone
		delete(md, "tracestate")
		changed = true
	}
	if changed {
		ctx = metadata.NewIncomingContext(ctx, md)
	}
	return context.WithValue(ctx, checkedKey{}, Headers(md)), nil
}

// checkMetadata is checkMetadata of the package; a call that names no durability has the server's.
func (s *Server) checkMetadata(ctx context.Context) (context.Context, error) {
	ctx, err := checkMetadata(ctx)
	if err != nil || s.options.Durability == eventstore.Local || HeadersOf(ctx).Get("x-durability") != "" {
		return ctx, err
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md.Set("x-durability", s.options.Durability.String())
	return context.WithValue(metadata.NewIncomingContext(ctx, md), checkedKey{}, Headers(md)), nil
}

type checkedKey struct{}

// Headers are what a call's metadata says, by names in lower case; not to be changed.
type Headers metadata.MD

// noHeaders are those of a call that says nothing, as most calls do.
var noHeaders Headers

// HeadersOf returns the headers of a call. gRPC looks through all of a call's metadata for a name that is not there, which
// with a handful of names is a good part of a call.
func HeadersOf(ctx context.Context) Headers {
	if h, ok := ctx.Value(checkedKey{}).(Headers); ok {
		return h
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return Headers(md)
}

// Get returns what is said under a name; an empty text when there is nothing.
func (h Headers) Get(name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func traceable(name string, values []string) bool {
	if name == "tracestate" {
		return len(values) == 1 && len(values[0]) <= maxTraceStateBytes && printable(values[0])
	}
	return len(values) == 1 && len(values[0]) <= maxMetadataBytes && traceParent.MatchString(values[0])
}

func metadataFault(values []string, most int) string {
	switch {
	case len(values) > 1:
		return "is given more than once, give it once"
	case strings.TrimSpace(values[0]) == "":
		return "is empty: give it a value, or leave it out"
	case len(values[0]) > most:
		return fmt.Sprintf("is longer than %d bytes", most)
	case !printable(values[0]):
		return "holds unprintable characters or is not valid UTF-8"
	}
	return ""
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// headerName is the name as the documents write it.
func headerName(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }

// has reports whether the call carries the metadata.
func has(ctx context.Context, name string) bool {
	return len(metadata.ValueFromIncomingContext(ctx, name)) > 0
}

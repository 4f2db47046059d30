package server

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// statusOf maps the problem answers that the document names to their status.
var statusOf = map[string]string{
	"Invalid": "400", "NotFound": "404", "Conflict": "409", "VersionMismatch": "412", "TooLarge": "413", "MediaType": "415",
	"Refused": "422", "Busy": "429", "Unavailable": "503", "Timeout": "504",
}

var problemTexts = map[string]string{
	"Problem":         "Any other problem",
	"Invalid":         "The request is invalid; detail and faults name each fault",
	"NotFound":        "There is no such thing",
	"Conflict":        "What is there does not allow it, or was changed by another",
	"VersionMismatch": "The stream is not at the version that If-Match names; conflicts says where it is",
	"TooLarge":        "The request is beyond a limit",
	"MediaType":       "The body is not JSON, or is compressed",
	"Refused":         "The command was refused, code says why; or the Idempotency-Key was used for another request",
	"Busy":            "Too many streams are open",
	"Unavailable":     "What the request needs is down, or being rebuilt; Retry-After says when to try again",
	"Timeout":         "It took too long, or the read model has not come as far as X-Read-After asks",
}

// problemsOf names the problem answers that a route can give.
func problemsOf(rt *route) []string {
	names := []string{"Invalid", "Unavailable"}
	switch {
	case rt.stream:
		return append(names, "NotFound", "Conflict", "Busy")
	case isPlain(rt.desc.Output().Fields().ByName("durability"), protoreflect.StringKind):
		return append(names, "NotFound", "Conflict", "VersionMismatch", "TooLarge", "MediaType", "Refused", "Timeout")
	case rt.waits():
		return append(names, "NotFound", "Conflict", "Timeout")
	}
	return append(names, "Timeout")
}

func problemRef(name string) object { return object{"$ref": "#/components/responses/" + name} }

func problemResponses() object {
	out := object{}
	for _, name := range slices.Sorted(maps.Keys(problemTexts)) {
		r := object{
			"description": problemTexts[name],
			"content":     object{"application/problem+json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}},
		}
		if name == "Unavailable" || name == "Busy" || name == "Timeout" {
			r["headers"] = object{"Retry-After": object{"$ref": "#/components/headers/Retry-After"}}
		}
		out[name] = r
	}
	return out
}

func headers() object {
	return object{
		"X-Position":  object{"description": "Position that the answer stands at: give it as X-Read-After to a query to read your own write", "schema": text()},
		"X-Session":   object{"description": "Session token: give it as X-Read-After to a query at any site", "schema": text()},
		"ETag":        object{"description": "Version of the stream, for If-Match", "schema": text()},
		"Retry-After": object{"description": "Seconds after which to try again", "schema": object{"type": "integer"}},
	}
}

func problemSchema() object {
	says := func(s object, words string) object {
		s["description"] = words
		return s
	}
	return object{
		"type": "object", "description": "An error (RFC 9457)", "required": []any{"type", "title", "status"},
		"properties": object{
			"type":      says(object{"type": "string", "format": "uri-reference"}, "Kind of problem, stable for clients to branch on"),
			"title":     says(text(), "The same for all problems of the type"),
			"status":    says(object{"type": "integer"}, "The HTTP status"),
			"detail":    says(text(), "About this one problem"),
			"code":      says(text(), "Stable code of a refusal, such as order.invalid_transition"),
			"hint":      says(text(), "What to do about it"),
			"details":   says(object{"type": "object", "additionalProperties": text()}, "Facts of a refusal by name, such as limit"),
			"reference": says(text(), "How the server's log names an internal error"),
			"instance":  says(text(), "Path of the request"),
			"faults":    says(object{"type": "array", "items": text()}, "Each thing that is wrong, where there are several"),
			"conflicts": says(object{"type": "array", "items": object{
				"type": "object", "properties": object{"stream": text(), "want": text(), "got": object{"type": "integer"}},
			}}, "Streams whose version was another than expected"),
			"condition": says(object{
				"type": "object", "properties": object{
					"query": object{"type": "array", "items": object{"type": "object", "properties": object{"types": texts(), "tags": texts()}}},
					"after": text(), "found": text(),
				},
			}, "The condition that did not hold: an event that its query matches was found after its position"),
		},
	}
}

func texts() object { return object{"type": "array", "items": text()} }

func healthSchema() object {
	flag := object{"type": "boolean"}
	return object{
		"type": "object", "description": "How the server and its dependencies are", "required": []any{"live", "ready", "version", "dependencies"},
		"properties": object{
			"live": flag, "ready": flag, "version": text(),
			"dependencies": object{"type": "array", "items": object{
				"type": "object", "properties": object{"name": text(), "up": flag, "required": flag, "mode": text(), "problem": text()},
			}},
		},
	}
}

// ownOperations are those that the server offers itself.
func ownOperations() map[string]object {
	health := object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Health"}}}
	own := func(id, summary string, content object, more object) object {
		responses := object{"200": object{"description": "Done", "content": content}}
		maps.Copy(responses, more)
		return object{"operationId": id, "summary": summary, "responses": responses}
	}
	notReady := object{"503": object{"description": "Not ready; the body says why", "content": health}}
	return map[string]object{
		"/v1/health":       own("GetHealth", "Whether the server is ready, and how each dependency is", health, notReady),
		"/v1/health/ready": own("GetReady", "The same as /v1/health", health, notReady),
		"/v1/health/live":  own("GetLive", "Whether the process answers", health, nil),
		"/metrics":         own("GetMetrics", "Metrics for Prometheus", object{"text/plain": object{"schema": text()}}, nil),
		"/openapi.json":    own("GetOpenAPI", "This document", object{"application/json": object{"schema": object{"type": "object"}}}, nil),
	}
}

var anyPathVar = regexp.MustCompile(`\{([A-Za-z_]+)\}`)

var notIdentifier = regexp.MustCompile(`[^A-Za-z0-9]+`)

// plainOperation says what is known of a plain route.
func plainOperation(method, path string) object {
	op := object{
		"operationId": method + notIdentifier.ReplaceAllString(path, "_"), "summary": method + " " + path, "tags": []any{"plain"},
		"responses": object{
			strconv.Itoa(http.StatusOK): object{"description": "Done", "content": object{"application/json": object{"schema": object{}}}},
			"default":                   problemRef("Problem"),
		},
	}
	var params []any
	for _, m := range anyPathVar.FindAllStringSubmatch(path, -1) {
		params = append(params, parameter(m[1], "path", text(), ""))
	}
	if params != nil {
		op["parameters"] = params
	}
	if method != http.MethodGet && method != http.MethodDelete {
		op["requestBody"] = object{"content": object{"application/json": object{"schema": object{}}}}
	}
	return op
}

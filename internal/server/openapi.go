package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/schemas/gen/comments"
)

type object = map[string]any

// OpenAPI returns the OpenAPI 3.1 document of the routes that are registered, as indented JSON.
func (s *Server) OpenAPI() ([]byte, error) {
	body, err := json.MarshalIndent(s.openAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode openapi: %w", err)
	}
	return append(body, '\n'), nil
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	body, err := s.OpenAPI()
	if err != nil {
		s.fail(rec, r, err)
		return
	}
	rec.answer(http.StatusOK, body)
}

func (s *Server) openAPI() object {
	d := &document{schemas: object{"Problem": problemSchema(), "Health": healthSchema()}, names: map[string]string{}}
	paths := object{}
	add := func(path, method string, op object) {
		item, ok := paths[path].(object)
		if !ok {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(method)] = op
	}
	for _, rt := range s.routes {
		add(rt.path, rt.method, d.operation(rt))
	}
	for _, pattern := range s.plain {
		method, path, _ := strings.Cut(pattern, " ")
		add(path, method, plainOperation(method, path))
	}
	for path, op := range ownOperations() {
		add(path, http.MethodGet, op)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Tributary", "version": s.options.Version,
			"description": "The same methods are offered over gRPC. 64-bit integers are strings, as in the JSON form of protobuf; numbers are taken too.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":    []any{object{"url": "/"}},
		"tags":       tags(s.routes),
		"paths":      paths,
		"components": object{"schemas": d.schemas, "responses": problemResponses(), "headers": headers()},
	}
}

func tags(routes []*route) []any {
	texts := map[string]string{}
	for _, rt := range routes {
		texts[rt.service()] = comments.Of(string(rt.desc.Parent().FullName()))
	}
	var out []any
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		out = append(out, object{"name": name, "description": texts[name]})
	}
	return out
}

// document collects the schemas of the messages that its operations use.
type document struct {
	schemas object
	names   map[string]string // of schemas, to the full name of the message
}

func (d *document) operation(rt *route) object {
	op := object{
		"operationId": string(rt.desc.Name()), "summary": rt.summary, "description": comments.Of(string(rt.desc.FullName())),
		"tags": []any{rt.service()}, "responses": d.responses(rt),
	}
	if params := d.parameters(rt); len(params) > 0 {
		op["parameters"] = params
	}
	if rt.body != "" {
		op["requestBody"] = object{
			"required": needsBody(rt), "content": object{"application/json": object{"schema": d.ref(rt.desc.Input())}},
		}
	}
	return op
}

// needsBody reports whether there is anything to say that the path does not say.
func needsBody(rt *route) bool { return rt.desc.Input().Fields().Len() > len(rt.pathVars) }

func (d *document) parameters(rt *route) []any {
	var params []any
	for _, f := range rt.pathVars {
		params = append(params, parameter(string(f.Name()), "path", d.fieldSchema(f), comments.Of(string(f.FullName()))))
	}
	for _, f := range rt.query {
		params = append(params, parameter(string(f.Name()), "query", d.fieldSchema(f), comments.Of(string(f.FullName()))))
	}
	if rt.waits() {
		params = append(params, parameter(readAfterParam, "query", text(), "The same as X-Read-After, for where headers cannot be set"))
	}
	for _, h := range headerParams(rt) {
		params = append(params, parameter(h.name, "header", text(), h.says))
	}
	return params
}

// parameter describes a parameter. One in the path is required, and one whose comment ends so.
func parameter(name, in string, schema object, says string) object {
	p := object{"name": name, "in": in, "schema": schema}
	if says != "" {
		p["description"] = says
	}
	if in == "path" || strings.HasSuffix(says, "Required.") {
		p["required"] = true
	}
	return p
}

type headerParam struct{ name, says string }

var commandHeaders = []headerParam{
	{"Idempotency-Key", "A command repeated with the same key returns the original receipt; the same key with another request is refused"},
	{"If-Match", "The version that the stream must stand at, such as \"3\"; * for any that exists, \"0\" for none"},
	{"X-Durability", "Where the events must be before the answer: local, kafka or peer; left out, what the server was started with (serve --durability), else local"},
	{"X-Correlation-Id", "Recorded with the events, and with all that follows from them"},
	{"X-Causation-Id", "Id of the message that led to the command, recorded with the events"},
	{"Traceparent", "W3C trace context, recorded with the events"},
}

// headerParams are the headers that a route reads: those of commands where it has a receipt to give, those of queries where
// it answers from a read model.
func headerParams(rt *route) []headerParam {
	tenant := headerParam{"X-Tenant", "Tenant that owns the streams; not given means default"}
	switch {
	case rt.waits():
		return []headerParam{{"X-Read-After", "Position of a receipt, or session token of any site: wait until the read model has come that far, 504 after 5 s"}, tenant}
	case isPlain(rt.desc.Output().Fields().ByName("durability"), protoreflect.StringKind):
		return append(slices.Clone(commandHeaders), tenant)
	case rt.desc.Input().Fields().ByName("tenant") != nil:
		return []headerParam{{"X-Tenant", "Tenant, where the parameter does not name one"}}
	}
	return nil
}

func (d *document) responses(rt *route) object {
	status, media, says := "200", object{"application/json": object{"schema": d.ref(rt.desc.Output())}}, "Done"
	switch {
	case rt.stream:
		says = "One message a line, or as server-sent events where the request accepts text/event-stream. When the stream fails" +
			" after it has begun, the last line is {\"problem\": …}, or an event named problem"
		media = object{
			ndjson:      object{"schema": d.ref(rt.desc.Output())},
			eventStream: object{"schema": text()},
		}
	case rt.creates():
		status, says = "201", "Recorded"
	}
	out := object{status: object{"description": says, "content": media}, "default": problemRef("Problem")}
	done := out[status].(object)
	h := object{}
	fields := rt.desc.Output().Fields()
	if isPlain(fields.ByName("position"), protoreflect.StringKind) && !rt.stream {
		h["X-Position"] = object{"$ref": "#/components/headers/X-Position"}
		h["X-Session"] = object{"$ref": "#/components/headers/X-Session"}
	}
	if isPlain(fields.ByName("version"), protoreflect.Uint64Kind) && !rt.stream {
		h["ETag"] = object{"$ref": "#/components/headers/ETag"}
	}
	if len(h) > 0 {
		done["headers"] = h
	}
	for _, name := range problemsOf(rt) {
		out[statusOf[name]] = problemRef(name)
	}
	if isPlain(fields.ByName("durability"), protoreflect.StringKind) {
		out["202"] = object{"description": "Recorded, but not yet as durable as asked; the receipt says how durable", "content": media}
	}
	return out
}

func (d *document) ref(m protoreflect.MessageDescriptor) object {
	if m.FullName() == "google.protobuf.Timestamp" {
		return object{"type": "string", "format": "date-time"}
	}
	name := string(m.Name())
	if full, taken := d.names[name]; taken && full != string(m.FullName()) || name == "Problem" || name == "Health" {
		name = strings.ReplaceAll(string(m.FullName()), ".", "_")
	}
	if _, done := d.schemas[name]; !done {
		d.names[name] = string(m.FullName())
		d.schemas[name] = object{} // before its fields, for messages that hold themselves
		properties := object{}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			schema := d.fieldSchema(f)
			if says := comments.Of(string(f.FullName())); says != "" {
				schema["description"] = says
			}
			properties[string(f.Name())] = schema
		}
		schema := object{"type": "object", "properties": properties}
		if says := comments.Of(string(m.FullName())); says != "" {
			schema["description"] = says
		}
		d.schemas[name] = schema
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (d *document) fieldSchema(f protoreflect.FieldDescriptor) object {
	switch {
	case f.IsMap():
		return object{"type": "object", "additionalProperties": d.plainSchema(f.MapValue())}
	case f.IsList():
		return object{"type": "array", "items": d.plainSchema(f)}
	}
	return d.plainSchema(f)
}

// plainSchema follows the JSON form of protobuf, in which 64-bit integers are strings.
func (d *document) plainSchema(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return d.ref(f.Message())
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Uint32Kind:
		return object{"type": "integer", "minimum": 0, "maximum": uint32(1<<32 - 1)}
	case protoreflect.Int32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Int64Kind:
		return object{"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
	case protoreflect.Uint64Kind:
		return object{"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
	case protoreflect.DoubleKind:
		return object{"type": "number", "format": "double"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	}
	return text()
}

func text() object { return object{"type": "string"} }

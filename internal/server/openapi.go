package server

import (
	"encoding/json"
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

type object = map[string]any

// serveOpenAPI answers with the OpenAPI 3.1 document of the routes that are registered.
func (s *Server) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(s.openAPI()) // the client is gone: nobody to tell
}

func (s *Server) openAPI() object {
	schemas := object{"Problem": problemSchema()}
	paths := object{}
	for _, rt := range s.routes {
		item, ok := paths[rt.path].(object)
		if !ok {
			item = object{}
			paths[rt.path] = item
		}
		item[strings.ToLower(rt.method)] = operation(rt, schemas)
	}
	paths["/v1/health"] = object{"get": object{
		"summary": "Live, ready, and each dependency", "operationId": "GetHealth",
		"responses": object{"200": object{"description": "Ready"}, "503": object{"description": "Not ready; the body says why"}},
	}}
	return object{
		"openapi":    "3.1.0",
		"info":       object{"title": "Tributary", "version": s.options.Version, "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"paths":      paths,
		"components": object{"schemas": schemas},
	}
}

func operation(rt *route, schemas object) object {
	var params []any
	for _, f := range rt.pathVars {
		params = append(params, object{"name": string(f.Name()), "in": "path", "required": true, "schema": fieldSchema(f, schemas), "description": comment(f)})
	}
	for _, f := range rt.query {
		params = append(params, object{"name": string(f.Name()), "in": "query", "schema": fieldSchema(f, schemas), "description": comment(f)})
	}
	for _, h := range headerParams(rt) {
		params = append(params, object{"name": h[0], "in": "header", "schema": object{"type": "string"}, "description": h[1]})
	}
	media := "application/json"
	if rt.stream {
		media = "application/x-ndjson"
	}
	status := "200"
	if rt.creates() {
		status = "201"
	}
	op := object{
		"operationId": string(rt.desc.Name()), "summary": rt.summary, "description": comment(rt.desc),
		"tags": []string{string(rt.desc.Parent().Name())},
		"responses": object{
			status:    object{"description": "Done", "content": object{media: object{"schema": ref(rt.desc.Output(), schemas)}}},
			"default": object{"description": "Problem (RFC 9457)", "content": object{"application/problem+json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}}},
		},
	}
	if params != nil {
		op["parameters"] = params
	}
	if rt.body != "" {
		op["requestBody"] = object{"content": object{"application/json": object{"schema": ref(rt.desc.Input(), schemas)}}}
	}
	return op
}

// headerParams are the headers that a route reads: those of commands where it changes something, else those of queries.
func headerParams(rt *route) [][2]string {
	switch {
	case rt.stream:
		return nil
	case rt.method == http.MethodGet:
		return [][2]string{{"X-Read-After", "Position of a receipt: wait until the read model has come that far"}}
	}
	return [][2]string{
		{"Idempotency-Key", "A repeated command with the same key returns the original receipt"},
		{"If-Match", "Version that the stream must stand at"},
		{"X-Durability", "local (default) or kafka"},
	}
}

func ref(m protoreflect.MessageDescriptor, schemas object) object {
	if m.FullName() == "google.protobuf.Timestamp" {
		return object{"type": "string", "format": "date-time"}
	}
	name := string(m.Name())
	if _, done := schemas[name]; !done {
		schemas[name] = object{} // before its fields, for messages that hold themselves
		properties := object{}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			schema := fieldSchema(f, schemas)
			if text := comment(f); text != "" {
				schema["description"] = text
			}
			properties[string(f.Name())] = schema
		}
		schemas[name] = object{"type": "object", "properties": properties, "description": comment(m)}
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func fieldSchema(f protoreflect.FieldDescriptor, schemas object) object {
	switch {
	case f.IsMap():
		return object{"type": "object", "additionalProperties": plainSchema(f.MapValue(), schemas)}
	case f.IsList():
		return object{"type": "array", "items": plainSchema(f, schemas)}
	}
	return plainSchema(f, schemas)
}

// plainSchema follows the JSON form of protobuf, in which 64-bit integers are strings.
func plainSchema(f protoreflect.FieldDescriptor, schemas object) object {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return ref(f.Message(), schemas)
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Uint32Kind, protoreflect.Int32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		return object{"type": "string", "format": "int64"}
	case protoreflect.DoubleKind:
		return object{"type": "number"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	}
	return object{"type": "string"}
}

func problemSchema() object {
	text := object{"type": "string"}
	return object{
		"type": "object", "description": "An error (RFC 9457)", "required": []string{"type", "title", "status"},
		"properties": object{
			"type": text, "title": text, "status": object{"type": "integer"}, "detail": text, "code": text, "hint": text, "instance": text,
			"conflicts": object{"type": "array", "items": object{"type": "object", "properties": object{"stream": text, "want": text, "got": object{"type": "integer"}}}},
		},
	}
}

// comment returns what the proto file says of a thing. Generated Go keeps no comments, so that it is empty unless the
// descriptors were loaded with their source.
func comment(d protoreflect.Descriptor) string {
	return strings.TrimSpace(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments)
}

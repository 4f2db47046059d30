package server_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tributary-es/tributary/internal/server"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

const openAPIFile = "../../docs/openapi.json"

var allServices = []*grpc.ServiceDesc{
	&commerceapiv1.CommandService_ServiceDesc, &commerceapiv1.QueryService_ServiceDesc,
	&apiv1.StreamService_ServiceDesc, &apiv1.AdminService_ServiceDesc, &storev1.EventStore_ServiceDesc,
	&apiv1.SubjectService_ServiceDesc, &sitesv1.Sites_ServiceDesc, &sitesv1.Conflicts_ServiceDesc, &sitesv1.Cells_ServiceDesc, &sitesv1.Members_ServiceDesc,
}

func fullDocument(t *testing.T) []byte {
	t.Helper()
	s := server.New(server.Options{Version: "dev"})
	defer closed(t, s)
	f := &fakes{}
	for i, impl := range []any{fakeCommands{fakes: f}, fakeQueries{fakes: f}, &server.Streams{}, &server.Admin{}, storev1.UnimplementedEventStoreServer{}, &server.Subjects{}, sitesv1.UnimplementedSitesServer{}, sitesv1.UnimplementedConflictsServer{}, sitesv1.UnimplementedCellsServer{}, sitesv1.UnimplementedMembersServer{}} {
		if err := s.Register(allServices[i], impl); err != nil {
			t.Fatal(err)
		}
	}
	body, err := s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestOpenAPIFileIsUpToDate(t *testing.T) {
	got := fullDocument(t)
	if *update {
		if err := os.WriteFile(openAPIFile, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is out of date: run go test ./internal/server -run OpenAPI -update")
	}
}

// Who reads docs/api.md finds every route in it, by its method and path.
func TestEveryRouteIsTold(t *testing.T) {
	var doc openAPI
	if err := json.Unmarshal(fullDocument(t), &doc); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\{[a-z_]+\}`)
	told := variable.ReplaceAllString(string(text), "{}")
	for path, item := range doc.Paths {
		for method := range item {
			route := strings.ToUpper(method) + " " + variable.ReplaceAllString(path, "{}")
			if !regexp.MustCompile(regexp.QuoteMeta(route) + `[^/a-z{]`).MatchString(told) {
				t.Errorf("docs/api.md lacks %s %s", strings.ToUpper(method), path)
			}
		}
	}
}

// openAPI is as much of a document as the checks need.
type openAPI struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]operation
	Components map[string]map[string]any
}

type operation struct {
	OperationID string
	Summary     string
	Description string
	Parameters  []struct {
		Name, In, Description string
		Required              bool
		Schema                map[string]any
	}
	RequestBody *struct {
		Content map[string]any
	}
	Responses map[string]map[string]any
}

func TestOpenAPIIsWellFormed(t *testing.T) {
	raw := fullDocument(t)
	var doc openAPI
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version != "dev" {
		t.Errorf("%s, %+v", doc.OpenAPI, doc.Info)
	}
	ids := map[string]string{}
	variable := regexp.MustCompile(`\{([a-z_]+)\}`)
	for path, item := range doc.Paths {
		for method, op := range item {
			at := strings.ToUpper(method) + " " + path
			if ids[op.OperationID] != "" || op.OperationID == "" {
				t.Errorf("%s: operationId %q is that of %s", at, op.OperationID, ids[op.OperationID])
			}
			ids[op.OperationID] = at
			if op.Summary == "" || len(op.Responses) == 0 {
				t.Errorf("%s has no summary or no responses", at)
			}
			var inPath, want []string
			seen := map[string]bool{}
			for _, p := range op.Parameters {
				if seen[p.In+p.Name] || p.Schema == nil || p.Description == "" {
					t.Errorf("%s: parameter %q stands there twice, has no schema or no description", at, p.Name)
				}
				seen[p.In+p.Name] = true
				if p.In == "path" {
					inPath = append(inPath, p.Name)
					if !p.Required {
						t.Errorf("%s: path parameter %q is not required", at, p.Name)
					}
				}
			}
			for _, m := range variable.FindAllStringSubmatch(path, -1) {
				want = append(want, m[1])
			}
			if !slices.Equal(inPath, want) {
				t.Errorf("%s: path parameters %v", at, inPath)
			}
			for status, r := range op.Responses {
				if r["description"] == nil && r["$ref"] == nil {
					t.Errorf("%s: answer %s has no description", at, status)
				}
			}
		}
	}
	for _, p := range doc.Paths["/v1/sites/compare-log"]["get"].Parameters {
		if p.Required != (p.Name == "log" || p.Name == "site") {
			t.Errorf("compare-log: parameter %q is required: %t", p.Name, p.Required)
		}
	}
	schemas := doc.Components["schemas"]
	for name, s := range schemas {
		if s.(map[string]any)["description"] == nil {
			t.Errorf("schema %s has no description", name)
		}
	}
	var whole any
	if err := json.Unmarshal(raw, &whole); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	references(whole, used)
	for ref := range used {
		parts := strings.Split(strings.TrimPrefix(ref, "#/components/"), "/")
		if len(parts) != 2 || doc.Components[parts[0]][parts[1]] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	}
	for kind, things := range doc.Components {
		for name := range things {
			if !used["#/components/"+kind+"/"+name] {
				t.Errorf("%s %s is used nowhere", kind, name)
			}
		}
	}
}

func references(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			into[ref] = true
		}
		for _, inner := range v {
			references(inner, into)
		}
	case []any:
		for _, inner := range v {
			references(inner, into)
		}
	}
}

// grpcOnly names the methods without a route: sessions, what other routes give over HTTP, and what sites say to each other.
var grpcOnly = map[*grpc.ServiceDesc][]string{
	&storev1.EventStore_ServiceDesc: {"AppendSession", "ReadStream", "Subscribe", "GetVersion", "GetPosition"},
	&sitesv1.Sites_ServiceDesc:      {"Beat", "Pull", "DigestLog", "DigestModels"},
}

// Every method of every service has a route, a few of the store's and the sites' apart, and the document has each route with all fields
// of its request.
func TestOpenAPICoversEveryMethod(t *testing.T) {
	var doc openAPI
	if err := json.Unmarshal(fullDocument(t), &doc); err != nil {
		t.Fatal(err)
	}
	for _, sd := range allServices {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(sd.ServiceName))
		if err != nil {
			t.Fatal(err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			rule := proto.GetExtension(m.Options(), apiv1.E_Http).(*apiv1.HttpRule)
			if slices.Contains(grpcOnly[sd], string(m.Name())) {
				if rule.GetPath() != "" {
					t.Errorf("%s has a route: take it out of grpcOnly", m.FullName())
				}
				continue
			}
			op, ok := doc.Paths[rule.GetPath()][strings.ToLower(rule.GetMethod())]
			if !ok || op.OperationID != string(m.Name()) || op.Description == "" {
				t.Errorf("%s: %s %s is not in the document, or says nothing: %+v", m.FullName(), rule.GetMethod(), rule.GetPath(), op)
				continue
			}
			if (rule.GetBody() != "") != (op.RequestBody != nil) {
				t.Errorf("%s: request body %v", m.FullName(), op.RequestBody)
			}
			var named []string
			for _, p := range op.Parameters {
				named = append(named, p.Name)
			}
			for j := range m.Input().Fields().Len() {
				if name := string(m.Input().Fields().Get(j).Name()); rule.GetBody() == "" && !slices.Contains(named, name) {
					t.Errorf("%s: no parameter %s among %v", m.FullName(), name, named)
				}
			}
			readAfter := slices.Contains(named, "X-Read-After")
			isQuery := sd == &commerceapiv1.QueryService_ServiceDesc || m.FullName() == "tributary.sites.v1.Conflicts.ListConflicts"
			if readAfter != isQuery {
				t.Errorf("%s: X-Read-After %v", m.FullName(), readAfter)
			}
			key := slices.Contains(named, "Idempotency-Key") && slices.Contains(named, "If-Match") && slices.Contains(named, "X-Durability")
			isCommand := sd == &commerceapiv1.CommandService_ServiceDesc || m.FullName() == "tributary.store.v1.EventStore.Append"
			if key != isCommand {
				t.Errorf("%s: headers of a command %v", m.FullName(), key)
			}
		}
	}
}

// What the document names is served, with the plain routes, and nothing of it needs a second look-up.
func TestOpenAPIIsServed(t *testing.T) {
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Version: "1"})
	s.Handle("POST /v1/points/{id}/earn", nil)
	r := run(t, s)
	a := r.do(t, http.MethodGet, "/openapi.json", "")
	var doc openAPI
	if err := json.Unmarshal(a.body, &doc); err != nil || a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v: HTTP %d %v", err, a.status, a.header)
	}
	paths := slices.Sorted(maps.Keys(doc.Paths))
	want := "[/metrics /openapi.json /v1/health /v1/health/live /v1/health/ready /v1/points/{id}/earn]"
	if fmt.Sprint(paths) != want {
		t.Errorf("paths %v, want %s", paths, want)
	}
	for _, path := range paths[:5] {
		if a := r.do(t, http.MethodGet, path, ""); a.status != 200 {
			t.Errorf("%s: HTTP %d", path, a.status)
		}
	}
}

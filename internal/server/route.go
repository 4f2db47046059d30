package server

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// route binds an HTTP method and path to a method of a service.
type route struct {
	method   string
	path     string
	pathVars []protoreflect.FieldDescriptor
	query    []protoreflect.FieldDescriptor
	body     string
	summary  string
	stream   bool
	desc     protoreflect.MethodDescriptor
	impl     any
	unary    *grpc.MethodDesc
	server   *grpc.StreamDesc
}

func (r *route) service() string { return string(r.desc.Parent().Name()) }

func (r *route) pattern() string { return r.method + " " + r.path }

// waits reports whether the route answers from a read model, and so may be asked to wait for a position: its answer says
// the position it stands at.
func (r *route) waits() bool {
	return r.method == http.MethodGet && !r.stream && isPlain(r.desc.Output().Fields().ByName("position"), protoreflect.StringKind)
}

func (r *route) fullMethod() string {
	return "/" + string(r.desc.Parent().FullName()) + "/" + string(r.desc.Name())
}

var pathVar = regexp.MustCompile(`\{([a-z_]+)\}`)

// routesOf reads the HTTP routes of a service from its proto descriptor.
func routesOf(sd *grpc.ServiceDesc, impl any) ([]*route, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(sd.ServiceName))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", sd.ServiceName, err)
	}
	service, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", sd.ServiceName)
	}
	var routes []*route
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		rule, ok := proto.GetExtension(m.Options(), apiv1.E_Http).(*apiv1.HttpRule)
		if !ok || rule.GetPath() == "" {
			continue
		}
		r := &route{
			method: rule.GetMethod(), path: rule.GetPath(), body: rule.GetBody(), summary: rule.GetSummary(),
			stream: rule.GetStream(), desc: m, impl: impl,
		}
		if err := r.bind(sd); err != nil {
			return nil, fmt.Errorf("route %s %s: %w", r.method, r.path, err)
		}
		routes = append(routes, r)
	}
	return routes, nil
}

func (r *route) bind(sd *grpc.ServiceDesc) error {
	name := string(r.desc.Name())
	if i := slices.IndexFunc(sd.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == name }); i >= 0 {
		r.unary = &sd.Methods[i]
	}
	if i := slices.IndexFunc(sd.Streams, func(m grpc.StreamDesc) bool { return m.StreamName == name }); i >= 0 {
		r.server = &sd.Streams[i]
	}
	switch {
	case r.unary == nil && r.server == nil:
		return fmt.Errorf("method %s is not in the service description", name)
	case r.stream != (r.server != nil) || r.server != nil && r.server.ClientStreams:
		return fmt.Errorf("only unary methods and server streams have routes, and the latter say so")
	case r.body != "" && r.body != "*":
		return fmt.Errorf("body %q: only \"*\" is used", r.body)
	}
	fields := r.desc.Input().Fields()
	for _, m := range pathVar.FindAllStringSubmatch(r.path, -1) {
		f := fields.ByName(protoreflect.Name(m[1]))
		if f == nil || f.IsList() || f.IsMap() || !plainKind(f) {
			return fmt.Errorf("path variable %s is not a plain field of %s", m[1], r.desc.Input().Name())
		}
		r.pathVars = append(r.pathVars, f)
	}
	if r.body != "" {
		return nil
	}
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.IsMap() || !plainKind(f) {
			return fmt.Errorf("field %s of %s %w", f.Name(), r.desc.Input().Name(), errNotPlain)
		}
		if !slices.Contains(r.pathVars, f) {
			r.query = append(r.query, f)
		}
	}
	return nil
}

func plainKind(f protoreflect.FieldDescriptor) bool {
	_, err := parseValue(f.Kind(), "")
	return !errors.Is(err, errNotPlain)
}

func (r *route) queryNames() string {
	var names []string
	for _, f := range r.query {
		names = append(names, string(f.Name()))
	}
	if r.waits() {
		names = append(names, readAfterParam)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// creates reports whether the route makes a new thing: a POST to a collection, answered with 201.
func (r *route) creates() bool {
	return r.method == http.MethodPost && len(r.pathVars) == 0 && r.server == nil
}

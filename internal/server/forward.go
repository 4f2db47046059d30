package server

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// forwardedBy marks a call that another site has sent on: it is not sent on again, for two sites that take each other for a
// stream's home would never come to an end.
const forwardedBy = "x-forwarded-by"

// passedOn are the headers that go with a call that is sent on.
var passedOn = []string{
	"idempotency-key", "if-match", "x-durability", "x-causation-id", "x-correlation-id", "x-tenant", "x-actor",
	"traceparent", "tracestate", "baggage",
}

// forward has a call answered at the site where its stream is written. refusal is what it met here, and what the client is told
// when it cannot be sent on. The header X-Site says who has answered: positions in the answer are of that site's log, its session
// token is good everywhere.
func (s *Server) forward(ctx context.Context, home, method string, req any, refusal error) (any, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	if raw, ok := req.(interface{ Message() (proto.Message, error) }); ok { // in its wire form
		m, err := raw.Message()
		if err != nil {
			return nil, err
		}
		req = m
	}
	request, ok := req.(proto.Message)
	if !ok || len(in.Get(forwardedBy)) > 0 {
		return nil, refusal
	}
	answer, err := answerOf(method)
	if err != nil {
		return nil, err
	}
	out := metadata.MD{}
	for _, name := range passedOn {
		if values := in.Get(name); len(values) > 0 {
			out.Set(name, values...)
		}
	}
	out.Set(forwardedBy, "site")
	if err := s.options.Forward(metadata.NewOutgoingContext(ctx, out), home, method, request, answer); err != nil {
		return nil, err
	}
	_, region, _ := strings.Cut(home, "@")
	headers := metadata.Pairs("x-site", region)
	if token := sessionOf(answer); token != "" {
		headers.Set("x-session", token)
	}
	if err := grpc.SetHeader(ctx, headers); err != nil {
		return nil, fmt.Errorf("set answer headers: %w", err)
	}
	return answer, nil
}

// answerOf returns an empty answer of a method, such as /tributary.store.v1.EventStore/Append.
func answerOf(method string) (proto.Message, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("forward %s: %w", method, err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("forward %s: it is not a method", method)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		return nil, fmt.Errorf("forward %s: %w", method, err)
	}
	return t.New().Interface(), nil
}

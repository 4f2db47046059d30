package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Problem is an error as clients see it: the body of an HTTP answer (RFC 9457, application/problem+json), and the source
// of a gRPC status, so that both protocols tell the same.
type Problem struct {
	// Type is a URI reference that names the kind of problem, stable for clients to branch on.
	Type string `json:"type"`
	// Title is the same for all problems of the type; Detail is about this one.
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is the stable code of a refusal, such as "order.invalid_transition".
	Code string `json:"code,omitempty"`
	// Details are the facts of a refusal by name, such as "limit".
	Details map[string]string `json:"details,omitempty"`
	// Hint says what to do about it.
	Hint string `json:"hint,omitempty"`
	// Reference is how the server's log names an internal error.
	Reference string `json:"reference,omitempty"`
	// Instance names the request: its path.
	Instance string `json:"instance,omitempty"`
	// Faults lists each thing that is wrong with an invalid request, where there are several.
	Faults []string `json:"faults,omitempty"`
	// Conflicts lists the streams whose version was another than expected.
	Conflicts []ProblemConflict `json:"conflicts,omitempty"`
	// Condition is the condition that did not hold.
	Condition *ProblemCondition `json:"condition,omitempty"`

	conflict   *storev1.Conflict // the same for gRPC
	grpc       codes.Code
	retryAfter int           // seconds; 0: not said
	answer     proto.Message // what was done nevertheless; nil: nothing
}

// ProblemConflict is a stream that stood at another version than expected.
type ProblemConflict struct {
	Stream string `json:"stream"`
	Want   string `json:"want"`
	Got    uint64 `json:"got"`
}

// ProblemCondition is a condition that did not hold: an event that the query matches stands after the position.
type ProblemCondition struct {
	Query []ProblemQueryItem `json:"query"`
	After string             `json:"after"`
	Found string             `json:"found"`
}

// ProblemQueryItem is an item of a condition's query.
type ProblemQueryItem struct {
	Types []string `json:"types,omitempty"`
	Tags  []string `json:"tags,omitempty"`
}

// problemTypes is the prefix of Problem.Type.
const problemTypes = "https://tributary-es.github.io/problems/"

// problemf makes a problem of this package's own.
func problemf(k kind, hint, format string, args ...any) *Problem {
	p := k.problem(fmt.Sprintf(format, args...))
	if hint != "" {
		p.Hint = hint
	}
	return &p
}

// Error makes a *Problem an error, so that the layers of this package can return one.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// write answers an HTTP request with the problem.
func (p *Problem) write(w http.ResponseWriter, r *http.Request) {
	p.Instance = r.URL.Path
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(p.json(), '\n')) // the client is gone: nobody to tell
}

func (p *Problem) json() []byte {
	body, err := json.Marshal(p)
	if err != nil { // INVARIANT: strings and numbers can be encoded
		return []byte(`{"type":"about:blank","title":"Internal error","status":500}`)
	}
	return body
}

// grpcStatus returns the problem as a gRPC status. Its details are an ErrorInfo, whose reason is the code of a refusal or
// else the last part of Type; a BadRequest where there are several faults, a PreconditionFailure and a tributary.store.v1.Conflict
// for conflicts, a RetryInfo where waiting helps, and what was done nevertheless. Of faults and conflicts it has as many as
// fit the headers that it travels in, and the rest only if it fits; where something is left out it says so.
func (p *Problem) grpcStatus() error {
	for most := max(len(p.Faults), len(p.Conflicts), 1); ; most /= 2 {
		s := p.statusWith(most)
		if most == 0 || proto.Size(s.Proto()) <= maxStatusSize {
			return s.Err()
		}
	}
}

// statusWith is grpcStatus with at most so many faults and conflicts; with none, a condition and what was done are left out too.
func (p *Problem) statusWith(most int) *status.Status {
	info := &errdetails.ErrorInfo{Reason: p.reason(), Domain: "tributary", Metadata: map[string]string{"type": p.Type, "title": p.Title, "status": strconv.Itoa(p.Status)}}
	truncated := most < max(len(p.Faults), len(p.Conflicts)) || most == 0
	if truncated {
		info.Metadata["truncated"] = "true"
	}
	if p.Hint != "" {
		info.Metadata["hint"] = p.Hint
	}
	if p.Reference != "" {
		info.Metadata["reference"] = p.Reference
	}
	for name, fact := range p.Details {
		info.Metadata["detail-"+name] = fact
	}
	details := []protoadapt.MessageV1{info}
	if len(p.Faults) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range p.Faults[:min(most, len(p.Faults))] {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Description: f})
		}
		details = append(details, bad)
	}
	if p.conflict != nil {
		streams := min(most, len(p.Conflicts))
		failed := &errdetails.PreconditionFailure{}
		for _, c := range p.Conflicts[:streams] {
			failed.Violations = append(failed.Violations, &errdetails.PreconditionFailure_Violation{
				Type: "VERSION", Subject: c.Stream, Description: fmt.Sprintf("want %s, is at version %d", c.Want, c.Got),
			})
		}
		if c := p.Condition; c != nil && most > 0 {
			failed.Violations = append(failed.Violations, &errdetails.PreconditionFailure_Violation{
				Type: "CONDITION", Subject: c.Found, Description: "an event that the condition excludes stands after " + c.After,
			})
		}
		conflict := &storev1.Conflict{Streams: p.conflict.GetStreams()[:streams], Truncated: truncated}
		if most > 0 {
			conflict.Condition = p.conflict.GetCondition()
		}
		details = append(details, failed, protoadapt.MessageV1Of(conflict))
	}
	if p.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: int64(p.retryAfter)}})
	}
	if p.answer != nil && most > 0 {
		details = append(details, protoadapt.MessageV1Of(p.answer))
	}
	s := status.New(p.grpc, p.Detail)
	if detailed, err := s.WithDetails(details...); err == nil {
		s = detailed
	}
	return s
}

func (p *Problem) reason() string {
	if p.Code != "" {
		return p.Code
	}
	return p.Type[len(problemTypes):]
}

// problemOfStatus returns the problem that another server of ours has made a status of; nil when it is of none.
func problemOfStatus(s *status.Status) *Problem {
	var p *Problem
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != "tributary" || !strings.HasPrefix(info.GetMetadata()["type"], problemTypes) {
			continue
		}
		m := info.GetMetadata()
		code, err := strconv.Atoi(m["status"])
		if err != nil {
			code = httpStatus(s.Code())
		}
		p = &Problem{Type: m["type"], Title: m["title"], Status: code, Detail: s.Message(), Hint: m["hint"], Reference: m["reference"], grpc: s.Code()}
		if info.GetReason() != p.reason() {
			p.Code = info.GetReason()
		}
		for name, fact := range m {
			if name, ok := strings.CutPrefix(name, "detail-"); ok {
				if p.Details == nil {
					p.Details = map[string]string{}
				}
				p.Details[name] = fact
			}
		}
	}
	if p == nil {
		return nil
	}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				p.Faults = append(p.Faults, v.GetDescription())
			}
		case *errdetails.RetryInfo:
			p.retryAfter = int(d.GetRetryDelay().GetSeconds())
		case *storev1.Conflict:
			conflict, err := wire.DecodeConflict(d)
			if err != nil {
				continue // it has what is not known here; the text says it all the same
			}
			p.conflict = d
			for _, c := range conflict.Conflicts {
				p.Conflicts = append(p.Conflicts, ProblemConflict{Stream: c.Stream.String(), Want: c.Want.String(), Got: c.Got})
			}
			p.Condition = conditionOf(conflict.Condition)
		}
	}
	return p
}

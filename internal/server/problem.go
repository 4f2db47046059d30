package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/queries"
)

// Problem is an error as clients see it: the body of an HTTP answer (RFC 9457, application/problem+json), and the source
// of a gRPC status.
type Problem struct {
	// Type is a URI reference that names the kind of problem, stable for clients to branch on.
	Type string `json:"type"`
	// Title is the same for all problems of the type; Detail is about this one.
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is the stable code of a refusal, such as "order.invalid_transition".
	Code string `json:"code,omitempty"`
	// Hint says what to do about it.
	Hint string `json:"hint,omitempty"`
	// Instance names the request: its path.
	Instance string `json:"instance,omitempty"`
	// Conflicts lists the streams whose version was another than expected.
	Conflicts []ProblemConflict `json:"conflicts,omitempty"`

	grpc       codes.Code
	retryAfter int // seconds; 0: not said
}

// ProblemConflict is a stream that stood at another version than expected.
type ProblemConflict struct {
	Stream string `json:"stream"`
	Want   string `json:"want"`
	Got    uint64 `json:"got"`
}

// problemTypes is the prefix of Problem.Type.
const problemTypes = "https://tributary-es.github.io/problems/"

// kinds maps sentinel errors to problems, the first match counts.
var kinds = []struct {
	err        error
	typ, title string
	status     int
	code       codes.Code
	hint       string
	retryAfter int
}{
	{eventstore.ErrIDReused, "id-reused", "Idempotency key was used for another request", 422, codes.InvalidArgument, "use a new Idempotency-Key for a new request", 0},
	{eventstore.ErrTooLarge, "too-large", "Request is beyond a limit", 413, codes.ResourceExhausted, "send less at once", 0},
	{eventstore.ErrInvalid, "invalid", "Request is invalid", 400, codes.InvalidArgument, "", 0},
	{eventstore.ErrWrongIncarnation, "wrong-position", "Position is not of this log", 409, codes.FailedPrecondition, "begin again from the start of the log", 0},
	{eventstore.ErrConflict, "conflict", "Stream was changed by another", 409, codes.Aborted, "read it again and repeat the command", 0},
	{eventstore.ErrUnsupported, "unsupported", "Not supported by this server", 501, codes.Unimplemented, "", 0},
	{eventstore.ErrReadOnly, "read-only", "Store takes no writes", 503, codes.Unavailable, "", 30},
	{eventstore.ErrDurabilityTimeout, "durability-timeout", "Recorded, but not yet as durable as asked", 504, codes.DeadlineExceeded, "repeat the request with the same Idempotency-Key to wait again", 0},
	{eventstore.ErrNotFound, "not-found", "Not found", 404, codes.NotFound, "", 0},
	{queries.ErrNotFound, "not-found", "Not found", 404, codes.NotFound, "", 0},
	{queries.ErrRebuilding, "rebuilding", "Read model is being rebuilt", 503, codes.Unavailable, "try again; GET /v1/status shows the progress", 2},
	{queries.ErrUnavailable, "unavailable", "Read model is unavailable", 503, codes.Unavailable, "try again; GET /v1/health shows what is down", 2},
	{eventstore.ErrUnavailable, "unavailable", "Unavailable", 503, codes.Unavailable, "try again; GET /v1/health shows what is down", 2},
	{eventstore.ErrClosed, "closing", "Server is shutting down", 503, codes.Unavailable, "try again", 2},
	{errNotYet, "not-yet", "Read model has not come that far", 504, codes.DeadlineExceeded, "try again, or ask without X-Read-After", 1},
	{context.DeadlineExceeded, "timeout", "Took too long", 504, codes.DeadlineExceeded, "try again; a command with an Idempotency-Key is applied once", 1},
	{context.Canceled, "canceled", "Request was canceled", 499, codes.Canceled, "", 0},
}

// notYet is implemented by the error of a query that waited in vain for a position.
type notYet interface{ NotYet() bool }

var errNotYet = errors.New("not yet")

// problemOf says how clients see err. Errors that nobody foresaw become a 500 that tells nothing of the inside; internal
// is then true, and the caller logs the error.
func problemOf(err error) (p Problem, internal bool) {
	var own *Problem
	if errors.As(err, &own) {
		return *own, false
	}
	if p, ok := rejectionProblem(err); ok {
		return p, false
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return Problem{Type: problemTypes + "rpc", Title: s.Code().String(), Status: httpStatus(s.Code()), Detail: s.Message(), grpc: s.Code()}, false
	}
	var ny notYet
	wait := errors.As(err, &ny) && ny.NotYet()
	for _, k := range kinds {
		if !errors.Is(err, k.err) && !(wait && errors.Is(k.err, errNotYet)) {
			continue
		}
		p := Problem{Type: problemTypes + k.typ, Title: k.title, Status: k.status, Detail: err.Error(), Hint: k.hint, grpc: k.code, retryAfter: k.retryAfter}
		var c *eventstore.ConflictError
		if errors.As(err, &c) {
			for _, s := range c.Conflicts {
				p.Conflicts = append(p.Conflicts, ProblemConflict{Stream: s.Stream.String(), Want: s.Want.String(), Got: s.Got})
			}
		}
		return p, false
	}
	return Problem{
		Type: problemTypes + "internal", Title: "Internal error", Status: 500, grpc: codes.Internal,
		Detail: "the server met an error that it did not foresee; its log says more",
	}, true
}

func rejectionProblem(err error) (Problem, bool) {
	var r *commands.Rejection
	if !errors.As(err, &r) {
		return Problem{}, false
	}
	return Problem{
		Type: problemTypes + "rejected", Title: "Command was refused", Status: 422, Detail: r.Reason, Code: r.Code,
		grpc: codes.FailedPrecondition,
	}, true
}

// Error makes a *Problem an error, so that the layers of this package can return one.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

func (p *Problem) write(w http.ResponseWriter, r *http.Request) {
	p.Instance = r.URL.Path
	w.Header().Set("Content-Type", "application/problem+json")
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	w.WriteHeader(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{"title":"Internal error","status":500}`)
	}
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody to tell
}

// grpcStatus returns the problem as a gRPC status with details: ErrorInfo, and RetryInfo where waiting helps.
func (p *Problem) grpcStatus() error {
	s := status.New(p.grpc, p.Detail)
	info := &errdetails.ErrorInfo{Reason: p.reason(), Domain: "tributary", Metadata: map[string]string{"title": p.Title}}
	if p.Hint != "" {
		info.Metadata["hint"] = p.Hint
	}
	for i, c := range p.Conflicts {
		info.Metadata[fmt.Sprintf("conflict.%d", i)] = fmt.Sprintf("%s: want %s, is at version %d", c.Stream, c.Want, c.Got)
	}
	detailed, err := s.WithDetails(info)
	if err != nil {
		return s.Err()
	}
	if p.retryAfter > 0 {
		retry := &errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: int64(p.retryAfter)}}
		if d, err := detailed.WithDetails(retry); err == nil {
			detailed = d
		}
	}
	return detailed.Err()
}

func (p *Problem) reason() string {
	if p.Code != "" {
		return p.Code
	}
	return p.Type[len(problemTypes):]
}

// problemf makes a problem of this package's own.
func problemf(httpCode int, kind, title, hint, format string, args ...any) *Problem {
	return &Problem{
		Type: problemTypes + kind, Title: title, Status: httpCode, Hint: hint,
		Detail: fmt.Sprintf(format, args...), grpc: grpcCode(httpCode),
	}
}

func grpcCode(httpCode int) codes.Code {
	switch httpCode {
	case 400, 415:
		return codes.InvalidArgument
	case 404, 405:
		return codes.NotFound
	case 412:
		return codes.FailedPrecondition
	case 413, 429:
		return codes.ResourceExhausted
	case 503:
		return codes.Unavailable
	}
	return codes.Internal
}

func httpStatus(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return 400
	case codes.NotFound:
		return 404
	case codes.AlreadyExists, codes.Aborted:
		return 409
	case codes.FailedPrecondition:
		return 422
	case codes.ResourceExhausted:
		return 429
	case codes.Unimplemented:
		return 501
	case codes.Unavailable:
		return 503
	case codes.DeadlineExceeded:
		return 504
	case codes.PermissionDenied:
		return 403
	case codes.Unauthenticated:
		return 401
	}
	return 500
}

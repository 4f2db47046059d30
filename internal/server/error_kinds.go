package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/wire"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
	"github.com/tributary-es/tributary/replication"
)

// kind is what all problems of one type share.
type kind struct {
	name, title string
	status      int
	grpc        codes.Code
	hint        string
	retryAfter  int // seconds; 0: not said
}

func (k kind) problem(detail string) Problem {
	return Problem{
		Type: problemTypes + k.name, Title: k.title, Status: k.status, Detail: told(detail), Hint: k.hint,
		grpc: k.grpc, retryAfter: k.retryAfter,
	}
}

// The kinds of problems. docs/api.md lists them for clients.
var (
	kindInvalid     = kind{"invalid", "Request is invalid", 400, codes.InvalidArgument, "", 0}
	kindKept        = kind{"kept", "Stream is not written by appends", 403, codes.PermissionDenied, "", 0}
	kindCrossOrigin = kind{"cross-origin", "Request comes from another site's page", 403, codes.PermissionDenied, "", 0}
	kindNotFound    = kind{"not-found", "Not found", 404, codes.NotFound, "", 0}
	kindMethod      = kind{"method", "Method is not allowed", 405, codes.Unimplemented, "", 0}
	kindConflict    = kind{"conflict", "Stream was changed by another", 409, codes.Aborted, "read it again and repeat the command", 0}
	kindPosition    = kind{"wrong-position", "Position is not of this log", 409, codes.FailedPrecondition, "use a position or token that this log has given as it is now: read it again from its start, or ask a query without X-Read-After", 0}
	kindExists      = kind{"exists", "There is one already, with other settings", 409, codes.AlreadyExists, "use another name, or delete it first", 0}
	kindUnderWay    = kind{"under-way", "It is under way already", 409, codes.Aborted, "wait until it has ended; GET /v1/status shows the progress", 0}
	kindDropped     = kind{"dropped", "Read model cannot be filled from what is left", 409, codes.FailedPrecondition, "", 0}
	kindReplaced    = kind{"replaced", "Another has joined under the same name", 409, codes.Aborted, "give each member a name of its own", 0}
	kindVersion     = kind{"version", "Stream is not at the version named by If-Match", 412, codes.FailedPrecondition, "read it again and repeat the command with its version", 0}
	kindErased      = kind{"erased", "Subject's personal data are erased", 410, codes.FailedPrecondition, "send it without personal data, or under a new reference", 0}
	kindTooLarge    = kind{"too-large", "Request is beyond a limit", 413, codes.ResourceExhausted, "send less at once", 0}
	kindHeaders     = kind{"too-large", "Request is beyond a limit", 431, codes.ResourceExhausted, "send less in headers and in the address", 0}
	kindMedia       = kind{"media-type", "Media type is not supported", 415, codes.InvalidArgument, "", 0}
	kindNotHome     = kind{"not-home", "Stream is written at another site", 421, codes.FailedPrecondition, "send it to the site that is named", 0}
	kindHost        = kind{"host", "Request is for another host", 421, codes.InvalidArgument, "", 0}
	kindRejected    = kind{"rejected", "Command was refused", 422, codes.FailedPrecondition, "", 0}
	kindInConflict  = kind{"in-conflict", "Stream is in conflict", 423, codes.FailedPrecondition, "a person has to pick one of its branches first", 0}
	kindBlocked     = kind{"write-blocked", "Stream is not written for now", 423, codes.Unavailable, "make the same at all sites what the text says; it goes on by itself then (tributary sites status)", 5}
	kindIDReused    = kind{"id-reused", "Idempotency key was used for another request", 422, codes.InvalidArgument, "use a new Idempotency-Key for a new request", 0}
	kindBusy        = kind{"busy", "Too many streams are open", 429, codes.ResourceExhausted, "close a stream, or try again later", 5}
	kindCanceled    = kind{"canceled", "Request was canceled", 499, codes.Canceled, "", 0}
	kindInternal    = kind{"internal", "Internal error", 500, codes.Internal, "", 0}
	kindDamaged     = kind{"damaged", "Stored data are damaged", 500, codes.DataLoss, "", 0}
	kindUnsupported = kind{"unsupported", "Not supported by this server", 501, codes.Unimplemented, "", 0}
	kindTruncated   = kind{"truncated", "Events were dropped", 410, codes.OutOfRange, "read from the position that is named on", 0}
	kindReadOnly    = kind{"read-only", "Store takes no writes", 503, codes.Unavailable, "", 30}
	kindFull        = kind{"full", "Store takes no writes for now", 503, codes.Unavailable, "make room on its disk; it goes on by itself then", 30}
	kindMoving      = kind{"moving", "Stream is moving to another site", 503, codes.Unavailable, "try again in a moment", 1}
	kindUnavailable = kind{"unavailable", "Unavailable", 503, codes.Unavailable, "try again; GET /v1/health shows what is down", 2}
	kindArchive     = kind{"archive-unavailable", "Archive cannot be reached", 503, codes.Unavailable, "what is newer can be read; see to the place that is named, then try again", 10}
	kindRebuilding  = kind{"rebuilding", "Read model is being rebuilt", 503, codes.Unavailable, "try again; GET /v1/status shows the progress", 2}
	kindClosing     = kind{"closing", "Server is shutting down", 503, codes.Unavailable, "try again", 2}
	kindNotYet      = kind{"not-yet", "Read model has not come that far", 504, codes.DeadlineExceeded, "try again, or ask without X-Read-After", 1}
	kindTimeout     = kind{"timeout", "Took too long", 504, codes.DeadlineExceeded, "try again; a command with an Idempotency-Key is applied once", 1}
	kindOutcome     = kind{"outcome-unknown", "Recorded or not, it is not known", 504, codes.DeadlineExceeded, "repeat the request with the same Idempotency-Key, it is applied once", 1}
	kindDurability  = kind{"durability-timeout", "Recorded, but not yet as durable as asked", 504, codes.DeadlineExceeded, "repeat the request with the same Idempotency-Key to wait again", 1}
)

// sentinels maps errors that callers know to kinds; the first that matches counts, so the particular stand above the
// general.
var sentinels = []struct {
	err  error
	kind kind
}{
	{eventstore.ErrDurabilityTimeout, kindDurability},
	{eventstore.ErrOutcomeUnknown, kindOutcome},
	{eventstore.ErrIDReused, kindIDReused},
	{eventstore.ErrErased, kindErased},
	{eventstore.ErrTruncated, kindTruncated},
	{eventstore.ErrTooLarge, kindTooLarge},
	{eventstore.ErrInvalid, kindInvalid},
	{eventstore.ErrWrongIncarnation, kindPosition},
	{eventstore.ErrConflict, kindConflict},
	{commands.ErrConflicted, kindInConflict},
	{groups.ErrExists, kindExists},
	{groups.ErrReplaced, kindReplaced},
	{projections.ErrRebuildUnderWay, kindUnderWay},
	{eventstore.ErrUnsupported, kindUnsupported},
	{eventstore.ErrNotHome, kindNotHome},
	{eventstore.ErrBlocked, kindBlocked},
	{eventstore.ErrCorrupt, kindDamaged},
	{eventstore.ErrReadOnly, kindReadOnly},
	{eventstore.ErrNotFound, kindNotFound},
	{queries.ErrNotFound, kindNotFound},
	{queries.ErrRebuilding, kindRebuilding},
	{queries.ErrUnavailable, kindUnavailable},
	{eventstore.ErrArchiveUnavailable, kindArchive},
	{eventstore.ErrUnavailable, kindUnavailable},
	{eventstore.ErrClosed, kindClosing},
	{context.DeadlineExceeded, kindTimeout},
	{context.Canceled, kindCanceled},
}

// notYet is implemented by the error of a query that waited in vain for a position.
type notYet interface{ NotYet() bool }

// answered is implemented by an error that comes with an answer all the same: the receipt of a command that is recorded,
// but not as durable as it asked.
type answered interface{ Answer() proto.Message }

// problemOf says how clients see err. ifMatch says that the call carried If-Match, so that a conflict is a failed
// precondition. Errors that nobody foresaw, and those of stored data, become a 500 that tells nothing of the inside but a
// reference; internal is then true, and the caller logs error and reference.
func problemOf(err error, ifMatch bool) (p Problem, internal bool) {
	var own *Problem
	if errors.As(err, &own) {
		return *own, false
	}
	var rejection *commands.Rejection
	if errors.As(err, &rejection) {
		return rejected(rejection), false
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		if p := problemOfStatus(s); p != nil {
			return *p, false
		}
		k := kind{name: "rpc", title: s.Code().String(), status: httpStatus(s.Code()), grpc: s.Code()}
		return k.problem(s.Message()), false
	}
	var ny notYet
	if errors.As(err, &ny) && ny.NotYet() {
		return kindNotYet.problem(err.Error()), false
	}
	var body *http.MaxBytesError
	if errors.As(err, &body) {
		return kindTooLarge.problem(fmt.Sprintf("the body is larger than %d bytes", body.Limit)), false
	}
	for _, s := range sentinels {
		if !errors.Is(err, s.err) {
			continue
		}
		if s.kind == kindDamaged {
			p = untold(kindDamaged, "the server met stored data that are damaged; its log says which, as")
			switch {
			case errors.Is(err, eventstore.ErrArchiveDamaged):
				p.Hint = putBackHint
			case errors.Is(err, eventstore.ErrDamaged):
				p.Hint = repairHint
			}
			return p, true
		}
		return known(s.kind, err, ifMatch), false
	}
	if eventstore.ClassOf(err) == eventstore.Transient {
		return kindUnavailable.problem(err.Error()), false
	}
	return untold(kindInternal, "the server met an error that it did not foresee; its log has it as"), true
}

// untold is a problem that tells nothing of its cause but the reference by which the log has it.
func untold(k kind, detail string) Problem {
	reference := fmt.Sprintf("%012x", rand.Uint64()>>16)
	p := k.problem(detail + " " + reference)
	p.Reference = reference
	return p
}

// putBackHint is for damage in an archive, which the log names.
const putBackHint = "GET /v1/health names the segment; put it back as it was from a copy of the archive, and it is read again"

// repairHint is for damage that a scrub finds.
const repairHint = "tributary scrub --repair names the damage, and brings back from Kafka what is lost"

func known(k kind, err error, ifMatch bool) Problem {
	var conflict *eventstore.ConflictError
	isConflict := errors.As(err, &conflict)
	if k == kindConflict && ifMatch {
		k = kindVersion
	}
	if k == kindReadOnly && eventstore.ClassOf(err) == eventstore.Transient {
		k = kindFull
	}
	var elsewhere *eventstore.NotHomeError
	isElsewhere := errors.As(err, &elsewhere)
	if k == kindNotHome && eventstore.ClassOf(err) == eventstore.Transient {
		k = kindMoving
	}
	p := k.problem(err.Error())
	var unpeered *replication.UnpeeredError
	if errors.As(err, &unpeered) {
		p.Details = map[string]string{"mode": string(unpeered.Mode)}
	}
	var clock *replication.ClockError
	if errors.As(err, &clock) {
		p.Details = map[string]string{"mode": string(clock.Mode)}
	}
	var blocked *eventstore.BlockedError
	if errors.As(err, &blocked) {
		p.Details = map[string]string{"mode": blocked.Mode, "cell": fmt.Sprint(blocked.Cell)}
	}
	if isElsewhere {
		p.Details = map[string]string{"home": elsewhere.Home, "cell": fmt.Sprint(elsewhere.Cell), "epoch": fmt.Sprint(elsewhere.Epoch)}
	}
	var dropped *eventstore.TruncatedError
	if errors.As(err, &dropped) {
		p.Details = map[string]string{wire.FirstDetail: dropped.First.String()}
	}
	if isConflict {
		for _, s := range conflict.Conflicts {
			p.Conflicts = append(p.Conflicts, ProblemConflict{Stream: s.Stream.String(), Want: s.Want.String(), Got: s.Got})
		}
		p.Condition = conditionOf(conflict.Condition)
		p.conflict = wire.EncodeConflict(conflict)
	}
	if k == kindInvalid {
		p.Detail, p.Faults = faultsOf(err.Error())
	}
	var a answered
	if errors.As(err, &a) {
		p.answer = a.Answer()
	}
	return p
}

func conditionOf(c *eventstore.ConditionConflict) *ProblemCondition {
	if c == nil {
		return nil
	}
	out := &ProblemCondition{After: c.After.String(), Found: c.Found.String()}
	for _, item := range c.Query {
		out.Query = append(out.Query, ProblemQueryItem(item))
	}
	return out
}

// faultsOf takes the text of an invalid request's error apart: joined errors stand on lines of their own.
func faultsOf(text string) (detail string, faults []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for strings.HasPrefix(line, invalidPrefix) {
			line = strings.TrimPrefix(line, invalidPrefix)
		}
		if line != "" {
			faults = append(faults, line)
		}
	}
	n := len(faults)
	faults = toldFaults(faults)
	if n <= 1 {
		return strings.Join(faults, ""), nil
	}
	return fmt.Sprintf("%s (and %d more)", faults[0], n-1), faults
}

var invalidPrefix = eventstore.ErrInvalid.Error() + ": "

// rejected maps a refusal by the last part of its code: what there is not is 404, what is there already or is in a state
// that does not allow it is 409, everything else 422.
func rejected(r *commands.Rejection) Problem {
	k := kindRejected
	switch r.Code[strings.LastIndexByte(r.Code, '.')+1:] {
	case "not_found":
		k.status, k.grpc = http.StatusNotFound, codes.NotFound
	case "exists":
		k.status, k.grpc = http.StatusConflict, codes.AlreadyExists
	case "invalid_transition":
		k.status = http.StatusConflict
	}
	p := k.problem(r.Reason)
	p.Code, p.Details = r.Code, maps.Clone(r.Details)
	for name, fact := range p.Details {
		p.Details[name] = told(fact)
	}
	return p
}

// httpStatus gives the statuses that methods return themselves a status of HTTP.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.FailedPrecondition:
		return http.StatusUnprocessableEntity
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return kindCanceled.status
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

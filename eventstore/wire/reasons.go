package wire

import "github.com/tributary-es/tributary/eventstore"

// Reason is how an error of package eventstore is named where it travels.
type Reason struct {
	Name string
	Err  error
}

// Reasons are the names under which a server sends errors and a client takes them for the same again. What is not among
// them does not concern a client: ErrCorrupt is that of the server's data, of which it is told no more than that there is
// damage, and ErrClosed is that of the server's store, while the client is open.
var Reasons = []Reason{
	{"invalid", eventstore.ErrInvalid},
	{"too-large", eventstore.ErrTooLarge},
	{"conflict", eventstore.ErrConflict},
	{"id-reused", eventstore.ErrIDReused},
	{"not-found", eventstore.ErrNotFound},
	{"unsupported", eventstore.ErrUnsupported},
	{"archive-unavailable", eventstore.ErrArchiveUnavailable},
	{"moving", ErrMoving},
	{"unavailable", eventstore.ErrUnavailable},
	{"outcome-unknown", eventstore.ErrOutcomeUnknown},
	{"durability-timeout", eventstore.ErrDurabilityTimeout},
	{"wrong-position", eventstore.ErrWrongIncarnation},
	{"read-only", eventstore.ErrReadOnly},
	{"full", ErrFull},
	{"erased", eventstore.ErrErased},
	{"truncated", eventstore.ErrTruncated},
	{"not-home", eventstore.ErrNotHome},
	{"write-blocked", eventstore.ErrBlocked},
}

// ErrMoving is an eventstore.ErrNotHome that passes by itself: the stream is on its way to another site.
var ErrMoving error = moving{}

type moving struct{}

func (moving) Error() string { return "moving to another site" }

// Is makes errors.Is(err, eventstore.ErrNotHome) true.
func (moving) Is(target error) bool { return target == eventstore.ErrNotHome }

// Class says that it is worth trying again.
func (moving) Class() eventstore.Class { return eventstore.Transient }

// ErrFull is an eventstore.ErrReadOnly that passes by itself, such as that of a full disk: it is worth trying again.
var ErrFull error = full{}

type full struct{}

func (full) Error() string { return "read-only for now" }

// Is makes errors.Is(err, eventstore.ErrReadOnly) true.
func (full) Is(target error) bool { return target == eventstore.ErrReadOnly }

// Class says that it is worth trying again.
func (full) Class() eventstore.Class { return eventstore.Transient }

// FirstDetail names, among the details of "truncated", the position of the first event that was not dropped.
const FirstDetail = "first"

// MaxChunk is how many events a chunk of a subscription may be asked to hold.
const MaxChunk = 10_000

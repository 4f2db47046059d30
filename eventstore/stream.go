package eventstore

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultTenant is the tenant of those who have only one.
const DefaultTenant = "default"

// Limits of the parts of a StreamID, in bytes.
const (
	MaxNameBytes     = 64
	MaxStreamIDBytes = 256
)

// StreamID names a stream: the events of one aggregate instance.
type StreamID struct {
	// Tenant and Category are lower-case names: [a-z0-9$][a-z0-9._-]*. A leading $ is reserved for Tributary's own.
	Tenant   string
	Category string
	// ID is any printable text of at most MaxStreamIDBytes bytes; it may hold slashes.
	ID string
}

// Stream returns the stream of an aggregate instance of the default tenant.
func Stream(category, id string) StreamID {
	return StreamID{Tenant: DefaultTenant, Category: category, ID: id}
}

// String returns "tenant/category/id", which ParseStreamID reads back. It is also the key of the stream's Kafka records.
func (s StreamID) String() string { return s.Tenant + "/" + s.Category + "/" + s.ID }

// IsSystemCategory reports whether a category is Tributary's own: of checkpoints, receipts, schemas, erasures.
func IsSystemCategory(category string) bool { return strings.HasPrefix(category, "$") }

// IsZero reports whether s names nothing.
func (s StreamID) IsZero() bool { return s == StreamID{} }

// Validate says what is wrong with s, naming the part.
func (s StreamID) Validate() error {
	if err := validateName("tenant", s.Tenant); err != nil {
		return err
	}
	if err := validateName("category", s.Category); err != nil {
		return err
	}
	switch {
	case s.ID == "":
		return invalidf("stream id is empty")
	case len(s.ID) > MaxStreamIDBytes:
		return invalidf("stream id has %d bytes, the limit is %d", len(s.ID), MaxStreamIDBytes)
	case !utf8.ValidString(s.ID):
		return invalidf("stream id is not valid UTF-8")
	}
	for _, r := range s.ID {
		if !unicode.IsPrint(r) {
			return invalidf("stream id holds the unprintable character %U", r)
		}
	}
	return nil
}

// ParseStreamID reads what StreamID.String writes.
func ParseStreamID(text string) (StreamID, error) {
	tenant, rest, ok := strings.Cut(text, "/")
	category, id, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return StreamID{}, invalidf("stream %q is not of the form tenant/category/id", text)
	}
	s := StreamID{Tenant: tenant, Category: category, ID: id}
	return s, s.Validate()
}

func validateName(what, name string) error {
	switch {
	case name == "":
		return invalidf("%s is empty", what)
	case len(name) > MaxNameBytes:
		return invalidf("%s has %d bytes, the limit is %d", what, len(name), MaxNameBytes)
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if alnum || i == 0 && c == '$' || i > 0 && (c == '-' || c == '_' || c == '.') {
			continue
		}
		if i == 0 && (c == '-' || c == '_' || c == '.') {
			return invalidf("%s %q: it begins with %q, begin with a-z or 0-9", what, name, c)
		}
		return invalidf("%s %q: character %q is not allowed, use a-z, 0-9, '-', '_' and '.'", what, name, c)
	}
	return nil
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

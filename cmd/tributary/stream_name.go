package main

import (
	"fmt"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// streamName is a stream as a flag names it: CATEGORY/ID of the default tenant, or TENANT/CATEGORY/ID. Without the flag it is empty.
type streamName struct{ eventstore.StreamID }

// UnmarshalText reads what was given. An id that has a slash itself is named with its tenant.
func (s *streamName) UnmarshalText(text []byte) (err error) {
	name := string(text)
	switch strings.Count(name, "/") {
	case 0:
		return fmt.Errorf("%w: stream %q is not of the form [TENANT/]CATEGORY/ID", eventstore.ErrInvalid, name)
	case 1:
		name = eventstore.DefaultTenant + "/" + name
	}
	s.StreamID, err = eventstore.ParseStreamID(name)
	return err
}

// given reports whether a stream was named.
func (s *streamName) given() bool { return s.StreamID != eventstore.StreamID{} }

// String is the name with its tenant; empty when none was given.
func (s *streamName) String() string {
	if !s.given() {
		return ""
	}
	return s.StreamID.String()
}
